//! `http_server` and `http_client`, as programs.

mod common;

use common::{Directory, Program, pattern, read_to_end, run};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HOST;
use hyper::{Method, Request, Response, StatusCode};
use selio::process::Command;
use selio::signal::{SIGINT, SIGTERM};
use selio::time::sleep;
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::time::{Duration, Instant};

const SERVER: &str = env!("CARGO_BIN_EXE_http_server");
const CLIENT: &str = env!("CARGO_BIN_EXE_http_client");

async fn serve(site: &Directory) -> Program {
    Program::start(SERVER, &[site.as_str(), "--port", "0", "--header-timeout", "60"]).await
}

/// One connection that is kept alive.
struct Client(SendRequest<Full<Bytes>>);

impl Client {
    async fn new(server: &Program) -> Self {
        let (requests, connection) = http1::handshake(server.connect().await).await.unwrap();
        selio::spawn(connection);
        Client(requests)
    }

    async fn ask(&mut self, method: Method, path: &str, body: impl Into<Bytes>) -> Answer {
        let request = Request::builder().method(method).uri(path).header(HOST, "test");
        let request = request.body(Full::new(body.into())).unwrap();
        self.0.ready().await.expect("the connection is alive");
        let response = self.0.send_request(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer(Response::from_parts(head, body))
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.ask(Method::GET, path, "").await
    }
}

struct Answer(Response<Bytes>);

impl Answer {
    fn status(&self) -> StatusCode {
        self.0.status()
    }

    fn header(&self, name: &str) -> &str {
        self.0.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(self.0.body()).unwrap()
    }
}

fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn files_are_served_over_one_connection() {
    run(async {
        let site = Directory::new();
        site.write("index.html", "<h1>here</h1>");
        site.write("a b/ä.txt", "deep");
        site.write("empty.css", "");
        let large = pattern(10_000_000);
        site.write("large.bin", &large);
        let server = serve(&site).await;
        let mut client = Client::new(&server).await;

        let index = client.get("/").await;
        assert_eq!((index.status(), index.text()), (StatusCode::OK, "<h1>here</h1>"));
        assert_eq!(index.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(index.header("content-length"), "13");
        assert_eq!(client.get("/a%20b/%C3%A4.txt?query").await.text(), "deep");
        assert_eq!(client.get("//a%20b/./%c3%a4.txt").await.text(), "deep");
        let empty = client.get("/empty.css").await;
        assert_eq!((empty.text(), empty.header("content-length")), ("", "0"));
        assert!(client.get("/large.bin").await.0.body() == &large, "byte for byte");

        let head = client.ask(Method::HEAD, "/large.bin", "").await;
        assert_eq!((head.text(), head.header("content-length")), ("", "10000000"));
        assert_eq!(head.header("content-type"), "application/octet-stream");

        assert_eq!(client.get("/missing").await.status(), StatusCode::NOT_FOUND);
        assert_eq!(client.get("/index.html/more").await.status(), StatusCode::NOT_FOUND);
        let wrong = client.ask(Method::DELETE, "/", "").await;
        assert_eq!(wrong.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(wrong.header("allow"), "GET, HEAD");
    });
}

#[test]
fn no_path_leads_out_of_the_directory() {
    run(async {
        let (site, outside) = (Directory::new(), Directory::new());
        let secret = outside.write("secret.txt", "secret");
        site.write("inside.txt", "inside");
        symlink(&secret, site.path().join("link.txt")).unwrap();
        symlink(outside.path(), site.path().join("folder")).unwrap();
        symlink(site.path().join("inside.txt"), site.path().join("fine.txt")).unwrap();
        let server = serve(&site).await;
        let mut client = Client::new(&server).await;
        let name = outside.path().file_name().unwrap().to_str().unwrap();
        for path in [
            format!("/../{name}/secret.txt"),
            format!("/%2e%2e/{name}/secret.txt"),
            format!("/..%2f{name}%2fsecret.txt"),
            format!("/x/../../{name}/secret.txt"),
            "/inside.txt%00".to_owned(),
            "/%zz".to_owned(),
            "/%ff".to_owned(),
        ] {
            assert_eq!(client.get(&path).await.status(), StatusCode::BAD_REQUEST, "{path}");
        }
        for path in ["/link.txt", "/folder/secret.txt"] {
            assert_eq!(client.get(path).await.status(), StatusCode::FORBIDDEN, "{path}");
        }
        assert_eq!(client.get(&format!("/{secret}")).await.status(), StatusCode::NOT_FOUND);
        assert_eq!(client.get("/fine.txt").await.text(), "inside");
    });
}

#[test]
fn a_named_pipe_is_refused_and_blocks_nothing() {
    run(async {
        let site = Directory::new();
        let pipe = site.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().await.unwrap().success());
        let server = serve(&site).await;
        let mut client = Client::new(&server).await;
        assert_eq!(client.get("/pipe").await.status(), StatusCode::FORBIDDEN);
        // A directory without an index.
        assert_eq!(client.get("/").await.status(), StatusCode::NOT_FOUND);
    });
}

#[test]
fn an_upload_is_hashed_and_a_status_counted() {
    run(async {
        let site = Directory::new();
        let server = serve(&site).await;
        let mut client = Client::new(&server).await;
        for bytes in [vec![], pattern(10_000_000)] {
            let answer = client.ask(Method::POST, "/upload", bytes.clone()).await;
            let (length, hash) = (bytes.len(), hex_sha256(&bytes));
            let expected = format!("{{\"length\": {length}, \"sha256\": \"{hash}\"}}\n");
            assert_eq!(answer.text(), expected);
        }
        let wrong = client.get("/upload").await;
        assert_eq!(
            (wrong.status(), wrong.header("allow")),
            (StatusCode::METHOD_NOT_ALLOWED, "POST")
        );
        let status = client.get("/status").await;
        assert_eq!(status.header("content-type"), "application/json");
        assert!(status.text().starts_with("{\"requests\": 4, "), "{}", status.text());
    });
}

#[test]
fn who_sends_no_head_in_time_is_hung_up_on() {
    run(async {
        let site = Directory::new();
        let server = Program::start(SERVER, &[site.as_str(), "--header-timeout", "0.3"]).await;
        let start = Instant::now();
        let silent = server.connect().await;
        let half = server.connect().await;
        half.write_all(b"GET / HTTP/1.1\r\nHost: te").await.unwrap();
        assert_eq!(read_to_end(&silent).await.unwrap(), b"");
        assert!(start.elapsed() >= Duration::from_millis(300));
        _ = read_to_end(&half).await;

        // And who falls silent after a request.
        let idle = server.connect().await;
        idle.write_all(b"GET /status HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
        let answer = read_to_end(&idle).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
        Client::new(&server).await.get("/status").await;
    });
}

#[test]
fn a_server_out_of_descriptors_serves_on() {
    run(async {
        let site = Directory::new();
        let script = "ulimit -n 24; exec 2>/dev/null; exec \"$0\" \"$@\"";
        let args = ["-c", script, SERVER, site.as_str(), "--header-timeout", "20"];
        let server = Program::start("/bin/sh", &args).await;
        let mut crowd = Vec::new();
        for _ in 0..40 {
            crowd.push(server.connect().await);
        }
        sleep(Duration::from_millis(100)).await;
        drop(crowd);
        assert_eq!(Client::new(&server).await.get("/status").await.status(), StatusCode::OK);
    });
}

#[test]
fn a_server_that_is_asked_to_end_answers_what_is_under_way() {
    run(async {
        let site = Directory::new();
        for signal in [SIGTERM, SIGINT] {
            let mut server =
                Program::start(SERVER, &[site.as_str(), "--header-timeout", "60"]).await;
            let idle = server.connect().await;
            idle.write_all(b"GET /status HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
            let mut head = [0; 12];
            idle.read_exact(&mut head).await.unwrap();
            assert_eq!(&head, b"HTTP/1.1 200");
            let busy = server.connect().await;
            let post = "POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\
                        Expect: 100-continue\r\n\r\nhello";
            busy.write_all(post.as_bytes()).await.unwrap();
            // So it is under way, before the signal comes.
            let mut goes_on = [0; 25];
            busy.read_exact(&mut goes_on).await.unwrap();
            assert_eq!(&goes_on, b"HTTP/1.1 100 Continue\r\n\r\n");

            server.child.signal(signal).unwrap();
            let told = server.told.next().await.unwrap();
            assert_eq!(told, format!("signal {signal} from process {}", std::process::id()));
            _ = read_to_end(&idle).await.unwrap();
            selio::net::TcpStream::connect(server.address).await.unwrap_err();

            busy.write_all(b"world").await.unwrap();
            let answer = String::from_utf8(read_to_end(&busy).await.unwrap()).unwrap();
            assert!(answer.contains(&hex_sha256(b"helloworld")), "{answer}");
            assert!(answer.contains("connection: close"), "{answer}");
            assert!(server.child.status().await.unwrap().success());
        }
    });
}

#[test]
fn a_file_that_is_cut_off_meanwhile_is_no_whole_file() {
    run(async {
        let site = Directory::new();
        let path = site.write("large.bin", pattern(20_000_000));
        let server = serve(&site).await;
        let stream = server.connect().await;
        stream.write_all(b"GET /large.bin HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
        let mut first = [0; 1000];
        stream.read_exact(&mut first).await.unwrap();
        fs::File::options().write(true).open(path).unwrap().set_len(1000).unwrap();
        // The end comes too early, or as a reset: no client can take it for all.
        if let Ok(rest) = read_to_end(&stream).await {
            assert!(first.len() + rest.len() < 20_000_000);
        }
        assert_eq!(Client::new(&server).await.get("/status").await.status(), StatusCode::OK);
    });
}

#[test]
fn the_client_gets_and_posts() {
    run(async {
        let site = Directory::new();
        let large = pattern(3_000_000);
        site.write("large.bin", &large);
        let server = serve(&site).await;
        let url = |path: &str| format!("http://{}{path}", server.address);

        let got = Command::new(CLIENT).arg(url("/large.bin")).output().await.unwrap();
        assert!(got.status.success());
        assert!(got.stdout == large);
        assert_eq!(String::from_utf8_lossy(&got.stderr), "200 OK\n");

        let posted = Command::new(CLIENT).args([&url("/upload"), "text"]).output().await.unwrap();
        let posted = String::from_utf8(posted.stdout).unwrap();
        assert!(posted.contains(&hex_sha256(b"text")), "{posted}");

        let mut client = Command::new(CLIENT);
        client.args([&url("/upload"), "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let posted = client.spawn().unwrap().output_with_input(&large).await.unwrap();
        let posted = String::from_utf8(posted.stdout).unwrap();
        assert!(posted.contains(&hex_sha256(&large)), "{posted}");

        for (url, says) in [
            (url("/missing"), "404 Not Found"),
            ("https://localhost/".to_owned(), "http://"),
            ("http://127.0.0.1:1/".to_owned(), "refused"),
            ("nonsense".to_owned(), "http://"),
        ] {
            let failed = Command::new(CLIENT).arg(&url).output().await.unwrap();
            assert_eq!(failed.status.code(), Some(1), "{url}");
            let told = String::from_utf8(failed.stderr).unwrap();
            assert!(told.contains(says), "{url}: {told}");
        }
    });
}
