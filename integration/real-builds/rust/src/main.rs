//! Answers every request with the same words.
use std::io::{Read, Write};

fn main() -> std::io::Result<()> {
    let words = "built\n";
    let mut length = itoa::Buffer::new();
    for stream in std::net::TcpListener::bind("0.0.0.0:8000")?.incoming() {
        let mut stream = stream?;
        let _ = stream.read(&mut [0; 4096])?;
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{words}", length.format(words.len()))?;
    }
    Ok(())
}
