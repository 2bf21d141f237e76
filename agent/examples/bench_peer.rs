//! The two ends of a benchmark and the plain relay between them: `bench_peer serve ADDR`, `relay ADDR TARGET`,
//! `load ADDR WHAT COUNT`. `load` prints one JSON line. Never part of the product.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use anyhow::{Context, bail};

/// What a connection is for, its first byte.
const PING: u8 = b'p';
const DOWN: u8 = b'd';
const UP: u8 = b'u';

/// Bytes written at once, and the unit of COUNT in streams.
const BLOCK: usize = 64 * 1024;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", address] => serve(address),
        ["relay", address, target] => relay(address, target),
        ["load", address, what, count] => load(address, what, count.parse()?),
        _ => bail!("usage: bench_peer serve ADDR | relay ADDR TARGET | load ADDR dial|connect|ping|down|up COUNT"),
    }
}

/// A thread per connection: the peers must not be what is measured.
fn serve(address: &str) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("ready");
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || answer(stream));
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let [what, count @ ..] = head;
    let count = u64::from_be_bytes(count);
    let mut block = vec![0x61; BLOCK];
    match what {
        DOWN => (0..count).try_for_each(|_| stream.write_all(&block)),
        UP => {
            while stream.read(&mut block)? > 0 {}
            stream.write_all(b"!")
        }
        _ => loop {
            let len = stream.read(&mut block)?;
            if len == 0 {
                return Ok(());
            }
            stream.write_all(block.get(..len).unwrap_or_default())?;
        },
    }
}

/// What a relay costs that does nothing else: one thread, `copy_bidirectional`.
fn relay(address: &str, target: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = tokio::net::TcpListener::bind(address).await?;
        println!("ready");
        loop {
            let (mut client, _) = listener.accept().await?;
            let target = target.to_owned();
            tokio::task::spawn_local(async move {
                let mut server = tokio::net::TcpStream::connect(target).await?;
                client.set_nodelay(true)?;
                server.set_nodelay(true)?;
                tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, BLOCK, BLOCK).await
            });
        }
    })
}

fn load(address: &str, what: &str, count: u64) -> anyhow::Result<()> {
    let begin = Instant::now();
    let (mut times, bytes) = match what {
        "connect" => (connects(address, count)?, 0),
        "dial" => (dials(address, count)?, 0),
        "ping" => (pings(address, count)?, 0),
        "down" | "up" => (Vec::new(), stream(address, what, count)?),
        _ => bail!("no such load: {what}"),
    };
    let seconds = begin.elapsed().as_secs_f64();
    times.sort_unstable_by(f64::total_cmp);
    let at = |share: usize| times.get(times.len() * share / 100).copied();
    println!(
        "{}",
        serde_json::json!({ "what": what, "count": count, "seconds": seconds, "bytes": bytes,
            "p50_us": at(50), "p99_us": at(99) })
    );
    Ok(())
}

fn open(address: &str, what: u8, count: u64) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut head = vec![what];
    head.extend(count.to_be_bytes());
    stream.write_all(&head)?;
    Ok(stream)
}

/// connect(2) alone: what the kernel side costs.
fn dials(address: &str, count: u64) -> anyhow::Result<Vec<f64>> {
    (0..count)
        .map(|_| {
            let begin = Instant::now();
            let stream = TcpStream::connect(address)?;
            let took = begin.elapsed().as_secs_f64() * 1e6;
            drop(stream);
            Ok(took)
        })
        .collect()
}

/// From connect to the first byte back: with a proxy that accepts at once, connect alone says little.
fn connects(address: &str, count: u64) -> anyhow::Result<Vec<f64>> {
    (0..count)
        .map(|_| {
            let begin = Instant::now();
            let mut stream = open(address, PING, 0)?;
            stream.write_all(b"x")?;
            stream.read_exact(&mut [0])?;
            Ok(begin.elapsed().as_secs_f64() * 1e6)
        })
        .collect()
}

fn pings(address: &str, count: u64) -> anyhow::Result<Vec<f64>> {
    let mut stream = open(address, PING, 0)?;
    let mut message = [0x61; 300];
    (0..count)
        .map(|_| {
            let begin = Instant::now();
            stream.write_all(&message)?;
            stream.read_exact(&mut message)?;
            Ok(begin.elapsed().as_secs_f64() * 1e6)
        })
        .collect()
}

fn stream(address: &str, what: &str, count: u64) -> anyhow::Result<u64> {
    let mut block = vec![0x61; BLOCK];
    let mut bytes = 0;
    if what == "up" {
        let mut stream = open(address, UP, count)?;
        for _ in 0..count {
            stream.write_all(&block)?;
            bytes += BLOCK as u64;
        }
        stream.shutdown(std::net::Shutdown::Write)?;
        stream.read_exact(&mut [0]).context("the server did not confirm")?;
        return Ok(bytes);
    }
    let mut stream = open(address, DOWN, count)?;
    loop {
        match stream.read(&mut block)? {
            0 => return Ok(bytes),
            len => bytes += len as u64,
        }
    }
}
