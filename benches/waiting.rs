//! What waiting costs: timers, events, signals, sockets, streams in memory, and children.
//!
//! `cargo bench --manifest-path benches/peers/selio/Cargo.toml --bench waiting`

use std::future::Future;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::time::Duration;

use common::deadlines::far;
use common::os;
use common::tasks::poll_once;
use divan::Bencher;
use divan::counter::ItemsCount;
use selio::Timer;
use selio::event::Event;
use selio::net::{TcpListener, TcpStream};
use selio::process::Command;
use selio::signal::Signals;

fn main() {
    divan::main();
}

/// Measures N of something that is done in one `block_on`.
fn many<F: Future>(bencher: Bencher<'_, '_>, n: u64, make: impl Fn() -> F + Sync) {
    bencher.counter(ItemsCount::new(n)).bench(|| selio::block_on(make()));
}

#[divan::bench]
fn timer_made_polled_dropped(bencher: Bencher<'_, '_>) {
    many(bencher, 1_000, || async {
        for i in 0..1_000 {
            poll_once(pin!(Timer::after(far(i)))).await;
        }
    });
}

#[divan::bench]
fn timer_set_again(bencher: Bencher<'_, '_>) {
    many(bencher, 1_000, || async {
        let mut timer = Timer::after(far(0));
        for i in 0..1_000 {
            timer.set_after(far(i));
            poll_once(pin!(&mut timer)).await;
        }
    });
}

#[divan::bench(args = [100, 10_000])]
fn timers_that_are_due_at_once(bencher: Bencher<'_, '_>, n: u64) {
    many(bencher, n, || async move {
        let tasks: Vec<_> =
            (0..n).map(|i| selio::spawn(Timer::after(Duration::from_nanos(i)))).collect();
        for task in tasks {
            black_box(task.await.unwrap());
        }
    });
}

#[divan::bench]
fn timeout_that_does_not_come(bencher: Bencher<'_, '_>) {
    many(bencher, 1_000, || async {
        for i in 0..1_000 {
            selio::time::timeout(far(i), selio::yield_now()).await.unwrap();
        }
    });
}

#[divan::bench]
fn event(bencher: Bencher<'_, '_>) {
    many(bencher, 100, || async {
        let event = Event::new().unwrap();
        let trigger = event.trigger();
        for _ in 0..100 {
            trigger.trigger().unwrap();
            event.wait().await.unwrap();
        }
    });
}

#[divan::bench]
fn signal(bencher: Bencher<'_, '_>) {
    many(bencher, 100, || async {
        let mut signals = Signals::new([os::SIGUSR1]).unwrap();
        for _ in 0..100 {
            os::raise(os::SIGUSR1);
            black_box(signals.next().await);
        }
    });
}

#[divan::bench]
fn connect_and_accept(bencher: Bencher<'_, '_>) {
    many(bencher, 20, || async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        for _ in 0..20 {
            let (accepted, connected) =
                selio::join(listener.accept(), TcpStream::connect(address)).await;
            accepted.unwrap();
            connected.unwrap();
        }
    });
}

async fn serve(stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count]).await?,
        }
    }
}

#[divan::bench(args = [64, 65_536])]
fn echo_over_tcp(bencher: Bencher<'_, '_>, size: usize) {
    many(bencher, 100, || async move {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        selio::spawn(serve(server));
        let (message, mut answer) = (vec![7; size], vec![0; size]);
        for _ in 0..100 {
            let (sent, received) =
                selio::join(client.write_all(&message), client.read_exact(&mut answer)).await;
            sent.unwrap();
            received.unwrap();
        }
    });
}

#[divan::bench]
fn echo_in_memory(bencher: Bencher<'_, '_>) {
    many(bencher, 1_000, || async {
        let (client, server) = selio::io::duplex(4096);
        selio::spawn(async move {
            let mut buffer = [0; 64];
            while server.read_exact(&mut buffer).await.is_ok() {
                server.write_all(&buffer).await.unwrap();
            }
        });
        let mut answer = [0; 64];
        for _ in 0..1_000 {
            client.write_all(&[7; 64]).await.unwrap();
            client.read_exact(&mut answer).await.unwrap();
        }
    });
}

#[divan::bench(sample_count = 20)]
fn child(bencher: Bencher<'_, '_>) {
    many(bencher, 1, || async {
        assert!(Command::new("/bin/true").status().await.unwrap().success());
    });
}
