//! The labelled corpus of masks: samples of text with at most one sensitive value each, and where it stands.
//!
//! Owns the recipe, which is all of the corpus: the same seed gives the same samples on every machine. Every second sample is
//! for testing only: detectors are tuned by the others. Positives are values of each kind, made by the standards' arithmetic
//! (not by the detectors' code), in the forms that people write, put into lines of mail, JSON, CSV, SQL, logs, code and six
//! languages. Negatives are what such lines hold besides: order numbers, UUIDs, time stamps, hashes, floats, versions, code, logs.
//! Of numbers that happen to be a card's in all (issuer, length, check digit) nobody can say that they are none: order numbers
//! have the lengths and beginnings that shops give them.

mod dice;

use dice::{ALPHANUMERIC, DIGITS, Dice, HEXADECIMAL, TOKEN};

/// One sample.
pub struct Sample {
    /// The text.
    pub text: String,
    /// The kind of the value in it, as masks name it; none in a negative.
    pub kind: Option<&'static str>,
    /// Where the value stands, in bytes.
    pub start: usize,
    /// Behind it.
    pub end: usize,
    /// It belongs to the half that is for testing only.
    pub test: bool,
}

/// Positives of each kind.
const POSITIVES: usize = 400;

/// Negatives of each sort.
const NEGATIVES: usize = 2200;

/// Makes one value.
type Maker = fn(&mut Dice) -> String;

/// The samples of a seed.
pub fn samples(seed: u64) -> Vec<Sample> {
    let mut dice = Dice(seed);
    let mut samples = Vec::new();
    let kinds: &[(&str, Maker)] = &[
        ("card", card),
        ("iban", iban),
        ("ssn", ssn),
        ("api-key", key),
        ("jwt", jwt),
        ("private-key", private_key),
        ("email", email),
        ("phone", phone),
        ("ip", address),
    ];
    for (kind, make) in kinds {
        for number in 0..POSITIVES {
            let value = make(&mut dice);
            samples.push(placed(&mut dice, &value, Some(kind), number % 2 == 1));
        }
    }
    for number in 0..POSITIVES {
        samples.push(password(&mut dice, number % 2 == 1));
    }
    let sorts: &[fn(&mut Dice) -> String] = &[order, uuid, stamp, hash, float, version, code, log, prose, broken];
    for make in sorts {
        for number in 0..NEGATIVES {
            let value = make(&mut dice);
            samples.push(placed(&mut dice, &value, None, number % 2 == 1));
        }
    }
    samples
}

/// Lines into which values are put, at `{}`.
const LINES: &[&str] = &[
    "{}",
    "Please use {} for this.",
    "The customer gave us {}, and asked for a call back.",
    "{\"id\": 17, \"value\": \"{}\", \"ok\": true}",
    "{\"messages\":[{\"role\":\"user\",\"content\":\"see {}\"}]}",
    "17,Smith,{},2026-11-23,open",
    "INSERT INTO notes (id, body) VALUES (17, '{}');",
    "2026-11-23T19:08:35Z INFO worker-3 value={} took=12ms",
    "let value = \"{}\";",
    "value\t{}\tnext",
    "<td>{}</td>",
    "Bitte {} verwenden, danke schön.",
    "Merci d'utiliser {} à l'avenir.",
    "Utilice {} para el próximo pedido, señor.",
    "次の値を使用してください: {} 。",
    "Пожалуйста, используйте {} сегодня",
    "(see {})",
    "a=1&value={}&b=2",
    "first line\\nvalue: {}\\nlast line",
];

fn placed(dice: &mut Dice, value: &str, kind: Option<&'static str>, test: bool) -> Sample {
    let (before, behind) = dice.one_of(LINES).split_once("{}").unwrap_or_default();
    let text = format!("{before}{value}{behind}");
    Sample { text, kind, start: before.len(), end: before.len() + value.len(), test }
}

/// Issuers' prefixes, lengths, and how often they are met.
fn card(dice: &mut Dice) -> String {
    let (prefix, length) = dice.one_of(&[
        ("4", 16),
        ("4", 16),
        ("4", 16),
        ("51", 16),
        ("52", 16),
        ("55", 16),
        ("2221", 16),
        ("2720", 16),
        ("34", 15),
        ("37", 15),
        ("6011", 16),
        ("644", 16),
        ("65", 16),
        ("3528", 16),
        ("3589", 16),
        ("300", 14),
        ("36", 14),
        ("62", 16),
        ("62", 19),
        ("6759", 16),
        ("2200", 16),
        ("4", 19),
    ]);
    let mut digits = prefix.to_owned();
    digits += &dice.string(DIGITS, length - 1 - prefix.len());
    // The check digit: from the right, every second one counts double, and its digits are added.
    let sum: u32 = digits
        .bytes()
        .rev()
        .zip([2, 1].into_iter().cycle())
        .map(|(byte, times)| {
            let product = u32::from(byte - b'0') * times;
            product / 10 + product % 10
        })
        .sum();
    digits += &((10 - sum % 10) % 10).to_string();
    let lengths: &[usize] = match length {
        14 => &[4, 6, 4],
        15 => &[4, 6, 5],
        16 => &[4, 4, 4, 4],
        _ => &[4, 4, 4, 4, 3],
    };
    grouped(&digits, lengths, dice.one_of(&["", "", " ", "-"]))
}

fn grouped(text: &str, lengths: &[usize], separator: &str) -> String {
    let mut rest = text;
    let mut groups = Vec::new();
    for length in lengths {
        let (group, behind) = rest.split_at((*length).min(rest.len()));
        groups.push(group);
        rest = behind;
    }
    groups.retain(|group| !group.is_empty());
    groups.join(separator)
}

fn iban(dice: &mut Dice) -> String {
    let (country, form) = dice.one_of(&[
        ("DE", "##################"),
        ("GB", "^^^^##############"),
        ("FR", "####################^##"),
        ("NL", "^^^^##########"),
        ("ES", "####################"),
        ("IT", "^######################"),
        ("CH", "#################"),
        ("AT", "################"),
        ("BE", "############"),
        ("PL", "########################"),
        ("NO", "###########"),
        ("SE", "####################"),
        ("SA", "##^#^###############"),
        ("MT", "^^^^#####^^^^##########^^^^"),
    ]);
    let account = dice.form(form);
    let as_digits: String = format!("{account}{country}00")
        .bytes()
        .map(|byte| match byte {
            b'0'..=b'9' => char::from(byte).to_string(),
            letter => (letter - b'A' + 10).to_string(),
        })
        .collect();
    let rest = as_digits.bytes().fold(0u32, |rest, digit| (rest * 10 + u32::from(digit - b'0')) % 97);
    let whole = format!("{country}{:02}{account}", 98 - rest);
    let whole = grouped(&whole, &[4; 9], dice.one_of(&["", "", " "]));
    if dice.below(8) == 0 { whole.to_lowercase() } else { whole }
}

fn ssn(dice: &mut Dice) -> String {
    let area = loop {
        let area = dice.between(1, 899);
        if area != 666 {
            break area;
        }
    };
    let (group, serial) = (dice.between(1, 99), dice.between(1, 9999));
    let separator = dice.one_of(&["-", "-", "-", " "]);
    format!("{area:03}{separator}{group:02}{separator}{serial:04}")
}

fn key(dice: &mut Dice) -> String {
    let (prefix, alphabet, length) = dice.one_of(&[
        ("sk-", ALPHANUMERIC, 48),
        ("sk-proj-", TOKEN, 120),
        ("sk-ant-api03-", TOKEN, 95),
        ("AKIA", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16),
        ("ASIA", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16),
        ("ghp_", ALPHANUMERIC, 36),
        ("gho_", ALPHANUMERIC, 36),
        ("github_pat_11", ALPHANUMERIC, 80),
        ("xoxb-1234567890-", ALPHANUMERIC, 24),
        ("xoxp-1234567890-", ALPHANUMERIC, 32),
        ("sk_live_", ALPHANUMERIC, 24),
        ("rk_live_", ALPHANUMERIC, 24),
        ("sk_test_", ALPHANUMERIC, 99),
        ("AIza", TOKEN, 35),
        ("glpat-", ALPHANUMERIC, 20),
        ("npm_", ALPHANUMERIC, 36),
        ("pypi-AgEIcHlwaS5vcmc", TOKEN, 120),
        ("hf_", ALPHANUMERIC, 34),
        ("SK", HEXADECIMAL, 32),
        ("dop_v1_", HEXADECIMAL, 64),
        ("hvs.", TOKEN, 90),
    ]);
    if dice.below(20) == 0 {
        return format!("SG.{}.{}", dice.string(ALPHANUMERIC, 22), dice.string(ALPHANUMERIC, 43));
    }
    // A digit and letters, as tokens of such lengths have; a hyphen at the end could be the line's.
    let tail = if alphabet == TOKEN { "w" } else { "" };
    let body = dice.string(alphabet, length - tail.len());
    let lead = if alphabet == TOKEN && length > 35 { "a1" } else { "" };
    format!("{prefix}{lead}{}{tail}", body.get(lead.len()..).unwrap_or_default())
}

fn jwt(dice: &mut Dice) -> String {
    // {"alg":"HS256"}, {"alg":"RS256","typ":"JWT"}, {"typ":"JWT","alg":"ES256"}
    let header = dice.one_of(&[
        "eyJhbGciOiJIUzI1NiJ9",
        "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9",
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9",
    ]);
    let (claims, signature) = (dice.between(40, 300), dice.one_of(&[43, 86, 342]));
    format!("{header}.eyJ{}.{}", dice.string(ALPHANUMERIC, claims), dice.string(ALPHANUMERIC, signature))
}

fn private_key(dice: &mut Dice) -> String {
    let label = dice.one_of(&[
        "PRIVATE KEY",
        "RSA PRIVATE KEY",
        "EC PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
    ]);
    let line = dice.one_of(&["\n", "\\n", "\r\n"]);
    let body: Vec<String> = (0..dice.between(2, 25)).map(|_| dice.string(ALPHANUMERIC, 64)).collect();
    format!("-----BEGIN {label}-----{line}{}{line}-----END {label}-----", body.join(line))
}

fn email(dice: &mut Dice) -> String {
    let local = dice.one_of(&["@@@@@", "@@@.@@@@@", "@@@+@@@", "@_@@@@##", "@@@@-@@@"]);
    let domain = dice.one_of(&["@@@@@.com", "@@@@@.co.uk", "mail.@@@@@@.de", "@@@-@@@.org", "@@@@.museum"]);
    dice.form(&format!("{local}\u{1}{domain}")).replace('\u{1}', "@")
}

fn phone(dice: &mut Dice) -> String {
    let form = dice.one_of(&[
        "+49 30 2#######",
        "+491512#######",
        "+1 (415) 5##-2###",
        "+1 212-5##-4###",
        "(415) 5##-2###",
        "415-5##-2###",
        "030 23######",
        "0171/2######",
        "020 7946 0###",
        "+44 20 7946 0###",
        "01 42 68 53 ##",
        "+33 1 42 68 53 ##",
    ]);
    dice.form(form)
}

fn address(dice: &mut Dice) -> String {
    match dice.below(4) {
        0 => dice.form("2001:db8:%%%%:%%%%::1#"),
        1 => dice.form("fe80::#%%%:%%ff:fe%%:%%%%"),
        _ => {
            let mut octet = || dice.between(1, 254);
            format!("{}.{}.{}.{}", octet(), octet(), octet(), octet())
        }
    }
}

fn password(dice: &mut Dice, test: bool) -> Sample {
    let line = dice.one_of(&[
        "postgres://shop:{}@db.example:5432/orders",
        "DATABASE_URL=mysql://root:{}@localhost/x",
        "amqp://guest:{}@mq/ and more",
        "host=db user=me password={} dbname=orders",
        "Server=db;Uid=me;Pwd={};Database=x",
        "{\"dsn\":\"redis://default:{}@cache:6379/0\"}",
    ]);
    let length = dice.between(8, 24);
    let value = dice.string("ABCDEFGHKLMNPQRSTabcdefghkmnpqrst23456789!_-.~", length);
    let (before, behind) = line.split_once("{}").unwrap_or_default();
    let text = format!("{before}{value}{behind}");
    Sample { text, kind: Some("url-password"), start: before.len(), end: before.len() + value.len(), test }
}

fn order(dice: &mut Dice) -> String {
    let form = dice.one_of(&[
        "ORD-########",
        "20261123####",
        "#######-##-#########",
        "1##############",
        "0###############",
        "7##########",
        "INV/2026/#####",
        "1Z%%%%%%%%%%%%%%%%",
        "9##-#######-#######",
        "100######",
        "SKU ####-####",
        "PO-2026-########",
        "00############",
        "1#################",
        "2026112319########",
        "######",
        "BATCH 4###-4###",
        "4### 5### pcs",
        "80############",
        "4##########",
        "5####-####",
    ]);
    dice.form(form)
}

fn uuid(dice: &mut Dice) -> String {
    dice.form(dice_form(&["%%%%%%%%-%%%%-4%%%-a%%%-%%%%%%%%%%%%", "########-####-4###-8###-############"], dice.0))
}

fn dice_form(forms: &[&'static str], seed: u64) -> &'static str {
    usize::try_from(seed % forms.len() as u64).ok().and_then(|at| forms.get(at)).copied().unwrap_or_default()
}

fn stamp(dice: &mut Dice) -> String {
    dice.form(dice_form(
        &[
            "17######## ",
            "17###########",
            "17##############",
            "17#################",
            "2026-11-2#T1#:2#:3#.######Z",
            "2026112#1#2#3#",
            "2#/Nov/2026:1#:2#:3# +0100",
            "1#:2#:3#,###",
            "2026-1#-0# 0#:1#",
        ],
        dice.0,
    ))
}

fn hash(dice: &mut Dice) -> String {
    let length = dice.one_of(&[7, 16, 24, 32, 40, 64, 128]);
    let text = dice.string(HEXADECIMAL, length);
    match dice.below(4) {
        0 => format!("sha256:{text}"),
        1 => format!("0x{text}"),
        2 => dice.string(ALPHANUMERIC, 44) + "=",
        _ => text,
    }
}

fn float(dice: &mut Dice) -> String {
    dice.form(dice_form(
        &[
            "0.################",
            "-3.###############",
            "4#.############",
            "1.########e-##",
            "51.######, 7.######",
            "0.4###############",
            "[0.########, -0.########, 0.########]",
            "4### 5### 6### 7#",
            "3.14159265358979",
        ],
        dice.0,
    ))
}

fn version(dice: &mut Dice) -> String {
    dice.form(dice_form(
        &[
            "v1.#.##",
            "2.##.#-rc.#",
            "@@@@@==1.#.##.dev#",
            "#.#.##+build.#####",
            "rustc 1.9#.0",
            "section 4.#.#",
            "ISBN 978-3-##-######-#",
        ],
        dice.0,
    ))
}

fn code(dice: &mut Dice) -> String {
    let line = dice.one_of(&[
        "fn sk_live() -> u32 { 0x####### }",
        "if password == other { return Err(#####) }",
        "class=\"sk-folding-cube-container-#\"",
        "password=getpass.getpass()",
        "url = f\"https://{host}:{port}/@@@@\"",
        "std::vec::Vec<u8>",
        "@@@@.@@@@(@@@@, #####)",
        "const MASK: u64 = 0x%%%%%%%%%%%%%%%%;",
        "http://localhost:80##/@@@@",
        "assert_eq!(a, ####_####_####)",
        "#include <@@@@.h>",
        "let key = env::var(\"GITHUB_TOKEN\")?;",
        "password=${DB_PASSWORD}",
        "-----BEGIN CERTIFICATE-----",
        "jwt.decode(token, key)",
        "a::b::c",
        "task-sk-learn",
        "e.g. AKIA or ghp_",
        "git clone https://github.com/@@@@/@@@@.git",
    ]);
    dice.form(line)
}

fn log(dice: &mut Dice) -> String {
    let line = dice.one_of(&[
        "pid=##### tid=###### rss=########",
        "GET /@@@@/####### 200 #### 0.0##",
        "took ####.###ms, queue=##",
        "[####:####] @@@@: ######## bytes",
        "seq=############ ack=##########",
        "mem 0x%%%%%%%%-0x%%%%%%%%",
        "trace_id=%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%% span_id=%%%%%%%%%%%%%%%%",
        "inode ######## blocks ####### #",
        "port 54## closed",
        "@@@@[#####]: @@@@ @@@@@@ @@@",
        "lat=52.5#### lon=13.4####",
        "etag W/\"%%%%%%%%%%%%\"",
    ]);
    dice.form(line)
}

fn prose(dice: &mut Dice) -> String {
    dice.one_of(&[
        "the invoice of 2026 was paid on the 3rd of 11",
        "wir haben 1.234.567,89 EUR überwiesen",
        "le 14 juillet 1789, 20 000 personnes",
        "売上は 1,234,567 円でした",
        "общая сумма 12 345 678 рублей",
        "room 4111, floor 5, building 12",
        "call me at noon, or at 5:30",
        "the social security reform of 1983",
        "page 123-456 of volume 78",
        "chapter 12-34-5678 does not exist",
        "el 25 de mayo de 1810",
        "مجموع 1234567 ريال",
        "the key is under the mat",
        "ask-me-anything-about-programming-2026",
        "de facto standard de89",
    ])
    .to_owned()
}

/// Values that are nearly right: a check digit is off, a place is missing.
fn broken(dice: &mut Dice) -> String {
    match dice.below(6) {
        0 => {
            let value = card(dice);
            let (rest, last) = value.split_at(value.len() - 1);
            format!("{rest}{}", (last.parse::<u8>().unwrap_or_default() + dice.one_of(&[1u8, 3, 7])) % 10)
        }
        1 => {
            let value = iban(dice).replace(' ', "").to_uppercase();
            let (country, rest) = value.split_at(2);
            let (check, account) = rest.split_at(2);
            format!("{country}{:02}{account}", (check.parse::<u8>().unwrap_or_default() + 1) % 97)
        }
        2 => format!("{}-{}", dice.form("9##-##"), dice.form("####")),
        3 => format!("000-{}", dice.form("##-####")),
        4 => dice.form("sk-@@@@@@@@-@@@@@@@"),
        _ => dice.form("AKIA@@@@########"),
    }
}
