#!/usr/bin/env python3
"""Makes postgres15.tsv: capture.py SOCKET-DIRECTORY PORT

A line for each literal below: its type's oid, its binary form (COPY … (FORMAT binary)), and the server's text of it."""

import struct
import subprocess
import sys
from pathlib import Path

P = ["psql", "-h", sys.argv[1], "-p", sys.argv[2], "-U", "postgres", "-X", "-qAt", "-v", "ON_ERROR_STOP=1"]
lits="""true
false
1::int2
'-32768'::int2
'-2147483648'::int4
9223372036854775807::int8
1.5::float4
1e-5::float4
3.4028235e38::float4
0.1::float4
16777216::float4
1234567::float4
123456789::float4
1e15::float8
1e14::float8
123456789012345::float8
1234567890123456::float8
0.0001::float8
0.00001234::float8
-0.0::float8
1e300::float8
'NaN'::float8
'-Infinity'::float4
0::numeric
0.00::numeric
-123.456::numeric
12345678901234567890.000000001::numeric
0.0000000000001::numeric
10000::numeric
1e20::numeric
'NaN'::numeric
'-Infinity'::numeric
100.10::numeric(10,4)
''::text
'grüße'::text
'abc'::varchar
'ab'::char(5)
'a'::"char"
'nm'::name
'{"a": [1, 2]}'::json
'{"a":[1,2]}'::jsonb
'<a/>'::xml
'6ba7b810-9dad-11d1-80b4-00c04fd430c8'::uuid
'\\x00ff10'::bytea
''::bytea
'2000-01-01'::date
'1999-12-31'::date
'2024-02-29'::date
'0001-01-01'::date
'0044-03-15 BC'::date
'4713-01-01 BC'::date
'5874897-12-31'::date
'infinity'::date
'-infinity'::timestamp
'00:00:00'::time
'24:00:00'::time
'12:34:56.789'::time
'12:34:56.789+02'::timetz
'12:34:56-03:30'::timetz
'2024-05-06 07:08:09.012345'::timestamp
'1850-01-01 00:00:00.5'::timestamp
'0044-03-15 01:02:03 BC'::timestamp
'2024-05-06 07:08:09+02'::timestamptz
'1 year 2 mons 3 days 04:05:06.7'::interval
'-1 day +02:03:04'::interval
'1 mon -1 day'::interval
'-1 year -2 mons +3 days -04:05:06'::interval
'0'::interval
'-00:00:00.5'::interval
'100:00:00'::interval
'1 day -1 microsecond'::interval
'10.0.0.1'::inet
'10.0.0.0/8'::inet
'10.0.0.0/8'::cidr
'::1'::inet
'2001:db8::/32'::cidr
'::ffff:1.2.3.4'::inet
'08:00:2b:01:02:03'::macaddr
'08:00:2b:01:02:03:04:05'::macaddr8
26::oid
'0'::regclass
'12.34'::money
'-1234567.89'::money
'0.05'::money
B'10110'::bit(5)
B''::varbit
B'1011011101'::varbit
array[1,2,null]::int4[]
array[[1,2],[3,4]]::int4[]
array[[[1],[2]],[[3],[4]]]::int4[]
'{}'::int4[]
'[0:1]={1,2}'::int4[]
'[2:3][-1:0]={{1,2},{3,4}}'::int4[]
array['a b','c,d','{x}','"q"','null','','back\\slash',null]::text[]
array['2024-01-01 00:00:00'::timestamp]
array[1.5,'NaN']::numeric[]
array['{"a":1}']::jsonb[]
array[true,false]
array[box '((1,2),(3,4))', box '((0,0),(1,1))']
int4range(1,5)
int4range(null,5)
'empty'::int4range
numrange(1.5,2.5,'[]')
daterange('2024-01-01',null)
tsrange('2024-01-01','2024-02-01')
tstzrange('2024-01-01+00','2024-02-01+00')
int8range(null,null)
array[int4range(1,2),int4range(3,4)]
row(1,'a b',null,''::text)
row(1,row('x"y','z\\w'))
row('(',array[1,2])
'1 2 3'::oidvector
'1 2'::int2vector
point(1.5,-2)
lseg '[(1,2),(3,4)]'
box '((1,2),(3,4))'
path '((1,2),(3,4))'
path '[(1,2),(3,4)]'
polygon '((1,2),(3,4))'
line '{1,2,3}'
circle '<(1,2),3>'
'16/B374D848'::pg_lsn
'(1,2)'::tid
'12345'::xid8
'7'::xid
'$.a'::jsonpath
'a'::refcursor
'a b'::tsvector
'1.5'::unknown""".split("\n")
out=[]
for l in lits:
    pre="set timezone='UTC'; set bytea_output='hex'; set lc_monetary='C';"
    q=l
    try:
        b=subprocess.run(P+["-c",pre,"-c",f"copy (select {q}) to stdout (format binary)"],capture_output=True,check=True).stdout
        t=subprocess.run(P+["-c",pre,"-c",f"select pg_typeof(v)::oid::text || E'\\t' || format('%s', v) from (select {q} as v) x"],capture_output=True,check=True).stdout.decode().rstrip("\n")
    except subprocess.CalledProcessError as e:
        print("SKIP",l,e.stderr); continue
    assert b[:11]==b"PGCOPY\n\xff\r\n\0", b
    n=struct.unpack(">h",b[19:21])[0]; ln=struct.unpack(">i",b[21:25])[0]
    v=b[25:25+ln]
    oid,text=t.split("\t",1)
    out.append(f"{oid}\t{v.hex()}\t{text}")
Path(__file__).with_name("postgres15.tsv").write_text("\n".join(out)+"\n")
print(len(out))
