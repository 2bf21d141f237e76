# Cancels statements as people and libraries do. Arguments: where to, as a URI, and psycopg's ways.
import asyncio, signal, subprocess, sys, threading

import asyncpg, psycopg

place = sys.argv[1]
SLEEP = "SELECT pg_sleep(100)"


def wait(name):
    """Until the test has seen the statement run."""
    print("sleeping", name, flush=True)
    sys.stdin.readline()


def by_psql():
    child = subprocess.Popen(["psql", "-X", "-c", SLEEP, place], stderr=subprocess.PIPE, text=True)
    wait("psql")
    child.send_signal(signal.SIGINT)
    print(" ".join(child.communicate()[1].split()), flush=True)


def by_psycopg(how):
    with psycopg.connect(place, autocommit=True) as connection:

        def cancel():
            wait(how)
            try:
                getattr(connection, how)()
            except psycopg.Error as error:
                print(error, flush=True)

        thread = threading.Thread(target=cancel)
        thread.start()
        try:
            connection.execute(SLEEP)
        except psycopg.errors.QueryCanceled as error:
            print(error.sqlstate, end=" ")
        thread.join()
        print(connection.execute("SELECT 'next'").fetchone()[0], flush=True)


async def by_asyncpg():
    connection = await asyncpg.connect(place)
    try:
        await connection.fetch(SLEEP, timeout=0.5)
    except TimeoutError:
        print("too late", end=" ")
    print(await connection.fetchval("SELECT 'next'"), flush=True)
    await connection.close()


by_psql()
for how in sys.argv[2:]:
    by_psycopg(how)
asyncio.run(by_asyncpg())
