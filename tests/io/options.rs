//! `SocketOptions`: each is what the kernel says afterwards, and none is refused in silence.
#![allow(unsafe_code, reason = "getsockopt(2)")]

use crate::kit;
use libc::c_int;
use selio::block_on;
use selio::net::{SocketOptions, TcpListener, TcpStream};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

const LOCALHOST: &str = "127.0.0.1:0";

fn option(socket: &impl AsRawFd, level: c_int, name: c_int) -> c_int {
    let mut value = 0;
    let mut length = size_of_val(&value) as libc::socklen_t;
    let target = (&raw mut value).cast();
    // SAFETY: `target` points at `value`, of this length; both outlive the call.
    let returned =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, target, &raw mut length) };
    assert_eq!(returned, 0, "{}", std::io::Error::last_os_error());
    value
}

#[test]
fn what_is_asked_for_is_set() {
    let _guard = kit::watchdog(10);
    let options = SocketOptions::new()
        .reuse_port(true)
        .recv_buffer(20_000)
        .send_buffer(30_000)
        .nodelay(true)
        .keepalive(Duration::from_millis(40_001))
        .keepalive_interval(Duration::from_secs(7))
        .keepalive_probes(5);
    block_on(async {
        let listener = options.listen(LOCALHOST).await.unwrap();
        let client = options.connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        for socket in [listener.as_raw_fd(), client.as_raw_fd(), accepted.as_raw_fd()] {
            let of_socket = |name| option(&socket, libc::SOL_SOCKET, name);
            let of_tcp = |name| option(&socket, libc::IPPROTO_TCP, name);
            assert_eq!(of_socket(libc::SO_REUSEPORT), 1);
            assert_eq!(of_socket(libc::SO_RCVBUF), 40_000, "the kernel doubles it");
            assert_eq!(of_socket(libc::SO_SNDBUF), 60_000, "the kernel doubles it");
            assert_eq!(of_tcp(libc::TCP_NODELAY), 1);
            assert_eq!(of_socket(libc::SO_KEEPALIVE), 1);
            assert_eq!(of_tcp(libc::TCP_KEEPIDLE), 41, "whole seconds, rounded up");
            assert_eq!(of_tcp(libc::TCP_KEEPINTVL), 7);
            assert_eq!(of_tcp(libc::TCP_KEEPCNT), 5);
        }
        assert_eq!(option(&listener, libc::SOL_SOCKET, libc::SO_REUSEADDR), 1);
        assert_eq!(option(&client, libc::SOL_SOCKET, libc::SO_REUSEADDR), 0);
    });
}

#[test]
fn a_listener_may_do_without_reusing_addresses() {
    let _guard = kit::watchdog(10);
    let options = SocketOptions::new().reuse_address(false);
    let listener = block_on(options.listen(LOCALHOST)).unwrap();
    assert_eq!(option(&listener, libc::SOL_SOCKET, libc::SO_REUSEADDR), 0);
}

#[test]
fn listeners_at_one_port_share_its_connections() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let options = SocketOptions::new().reuse_port(true);
        let one = options.listen(LOCALHOST).await.unwrap();
        let address = one.local_addr().unwrap();
        let two = options.listen(address).await.unwrap();
        let error = TcpListener::bind(address).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "all have to ask for it");
        let mut taken = [0, 0];
        for _ in 0..40 {
            let client = TcpStream::connect(address).await.unwrap();
            let own = client.local_addr().unwrap();
            let by_one = async { (0, one.accept().await.unwrap().1) };
            let by_two = async { (1, two.accept().await.unwrap().1) };
            let (which, peer) = selio::race(by_one, by_two).await;
            assert_eq!(peer, own);
            taken[which] += 1;
        }
        assert!(taken.iter().all(|&count| count > 0), "{taken:?}");
    });
}

#[test]
fn a_short_queue_is_short() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let listener = SocketOptions::new().backlog(1).listen(LOCALHOST).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut clients = Vec::new();
        // The kernel takes one more than it was told.
        for _ in 0..2 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        let late = selio::time::timeout(Duration::from_millis(200), TcpStream::connect(address));
        assert!(late.await.is_err(), "there is no room");
    });
}

#[test]
fn ipv6_alone_leaves_ipv4_to_others() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let options = SocketOptions::new().only_v6(true);
        let mut refused = None;
        for _ in 0..10 {
            let Ok(listener) = options.listen("[::]:0").await else {
                println!("passed over: there is no IPv6 here");
                return;
            };
            let port = listener.local_addr().unwrap().port();
            // A socket of IPv4 is not asked, and finds the port free, if no stranger has it there.
            match options.listen(&[SocketAddr::from(([0, 0, 0, 0], port))][..]).await {
                Ok(_) => return,
                Err(error) => refused = Some(error),
            }
        }
        panic!("{refused:?}");
    });
}

#[test]
fn a_device_is_the_only_way() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let listener = match SocketOptions::new().device("lo").listen(LOCALHOST).await {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                println!("passed over: a device takes CAP_NET_RAW here");
                return;
            }
            listener => listener.unwrap(),
        };
        TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let error = SocketOptions::new().device("no-such").listen(LOCALHOST).await.unwrap_err();
        assert!(error.to_string().starts_with("SO_BINDTODEVICE: "), "{error}");
    });
}

#[test]
fn connections_leave_from_where_they_shall() {
    let _guard = kit::watchdog(10);
    block_on(async {
        let listener = TcpListener::bind(LOCALHOST).await.unwrap();
        let from = SocketOptions::new().local_addr(([127, 0, 0, 9], 0).into());
        let client = from.connect(listener.local_addr().unwrap()).await.unwrap();
        assert_eq!(client.local_addr().unwrap().ip().to_string(), "127.0.0.9");
        let other = SocketOptions::new().local_addr("[::1]:0".parse().unwrap());
        other.connect(listener.local_addr().unwrap()).await.unwrap_err();
    });
}

#[test]
fn values_that_cannot_be_are_named() {
    let _guard = kit::watchdog(10);
    let new = SocketOptions::new;
    let wrong = [
        (new().recv_buffer(1 << 31), "SO_RCVBUF"),
        (new().send_buffer(usize::MAX), "SO_SNDBUF"),
        (new().keepalive(Duration::ZERO), "TCP_KEEPIDLE"),
        (new().keepalive(Duration::from_secs(32_768)), "TCP_KEEPIDLE"),
        (new().keepalive_interval(Duration::MAX), "TCP_KEEPINTVL"),
        (new().keepalive_probes(0), "TCP_KEEPCNT"),
        (new().keepalive_probes(128), "TCP_KEEPCNT"),
        (new().device("sixteen-is-a-lot"), "SO_BINDTODEVICE"),
        (new().device("a\0b"), "SO_BINDTODEVICE"),
    ];
    block_on(async {
        let listener = TcpListener::bind(LOCALHOST).await.unwrap();
        for (options, name) in wrong {
            let at_listen = options.listen(LOCALHOST).await.unwrap_err();
            let at_connect = options.connect(listener.local_addr().unwrap()).await.unwrap_err();
            for error in [at_listen, at_connect] {
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
                assert!(error.to_string().starts_with(name), "{error}");
            }
        }
    });
}

#[test]
fn an_option_of_tcp_is_refused_to_udp() {
    let _guard = kit::watchdog(10);
    let error = block_on(SocketOptions::new().nodelay(true).bind_udp(LOCALHOST)).unwrap_err();
    assert!(error.to_string().starts_with("TCP_NODELAY: "), "{error}");
    let source = std::error::Error::source(&error).unwrap();
    let source = source.downcast_ref::<std::io::Error>().unwrap();
    assert!(source.raw_os_error().is_some(), "{source}");
}

#[test]
fn datagrams_have_buffers_too() {
    let _guard = kit::watchdog(10);
    let socket = block_on(SocketOptions::new().recv_buffer(9_000).bind_udp(LOCALHOST)).unwrap();
    assert_eq!(option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF), 18_000);
}
