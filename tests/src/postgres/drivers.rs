//! The client libraries of PostgreSQL, as crews use them: each asks for one customer by a parameter, and prints the name.
//! Where to and as whom they take from libpq's variables. Never installs anything.

use std::path::PathBuf;
use std::process::Command;

use super::{DATABASE, PASSWORD, Postgres};
use crate::host::Host;
use crate::world::{cache_dir, clients_project, node_clients};

/// What every driver prints.
pub const ANSWER: &str = "Ada Lovelace\n";

/// A client library.
#[derive(Clone, Copy, Debug)]
pub struct Driver {
    /// Its name.
    pub name: &'static str,
    script: &'static str,
    node: bool,
}

/// All of them.
pub const DRIVERS: [Driver; 5] = [
    Driver {
        name: "psycopg",
        script: "import psycopg
with psycopg.connect() as connection:
    print(connection.execute('SELECT name FROM customers WHERE id = %s', (1,)).fetchone()[0])",
        node: false,
    },
    Driver {
        name: "psycopg2",
        script: "import psycopg2
connection = psycopg2.connect('')
cursor = connection.cursor()
cursor.execute('SELECT name FROM customers WHERE id = %s', (1,))
print(cursor.fetchone()[0])
connection.close()",
        node: false,
    },
    Driver {
        name: "asyncpg",
        script: "import asyncio, asyncpg
async def main():
    connection = await asyncpg.connect()
    print(await connection.fetchval('SELECT name FROM customers WHERE id = $1', 1))
    await connection.close()
asyncio.run(main())",
        node: false,
    },
    Driver {
        name: "SQLAlchemy",
        script: "import sqlalchemy
engine = sqlalchemy.create_engine('postgresql+psycopg://')
with engine.connect() as connection:
    print(connection.execute(sqlalchemy.text('SELECT name FROM customers WHERE id = :id'), {'id': 1}).scalar())
engine.dispose()",
        node: false,
    },
    Driver {
        name: "node-postgres",
        script: "const { Client } = require('pg'), fs = require('fs');
const root = process.env.PGSSLROOTCERT;
const ssl = process.env.PGSSLMODE === 'disable' ? false : { ca: fs.readFileSync(root), servername: 'localhost' };
const client = new Client({ ssl });
client.connect().then(() => client.query('SELECT name FROM customers WHERE id = $1', [1]))
    .then((result) => { console.log(result.rows[0].name); return client.end(); })
    .catch((error) => { console.error(error); process.exit(1); });",
        node: true,
    },
];

impl Driver {
    /// The program and its arguments.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let python = clients_project(&cache_dir()).join(".venv/bin/python");
        let (program, option) = if self.node { (PathBuf::from("node"), "-e") } else { (python, "-c") };
        vec![program.display().to_string(), option.to_owned(), self.script.to_owned()]
    }

    /// Tells a command where the server is, who logs in, and how: `sslmode` is libpq's, `root` the authority for it.
    pub fn tell(
        &self,
        command: &mut Command,
        server: &Postgres,
        user: &str,
        (sslmode, root): (&str, &std::path::Path),
    ) {
        command.env("PGHOST", "127.0.0.1").env("PGPORT", server.port().to_string()).env("PGDATABASE", DATABASE);
        command.env("PGUSER", user).env("PGPASSWORD", PASSWORD).env("PGSSLMODE", sslmode).env("PGSSLROOTCERT", root);
        command.env("NODE_PATH", node_clients(&cache_dir()).join("node_modules")).env("HOME", "/nonexistent");
    }

    /// The command in the host's namespace, without crewtap.
    #[must_use]
    pub fn direct(&self, host: &Host, server: &Postgres, user: &str, tls: (&str, &std::path::Path)) -> Command {
        let words = self.words();
        let mut command = host.command(&words[0]);
        command.args(&words[1..]);
        self.tell(&mut command, server, user, tls);
        command
    }
}
