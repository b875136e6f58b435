//! A TCP proxy that can be told to swallow what passes, or to let it pass late: a network or a disk that misbehaves.

use anyhow::Result;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What becomes of what passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// It passes.
    Fair,
    /// It is kept back, connections stay open, and no new ones come about: a network that drops packets.
    Blackhole,
    /// Answers come so much later.
    Slow(Duration),
}

/// A running proxy; it and its connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// One before `target`, in fair weather.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let weather = watch::Sender::new(Weather::Fair);
        let forecast = weather.subscribe();
        let task = tokio::spawn(async move {
            // Dropped with the task, and all connections with it.
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(serve(client, target, forecast.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, weather, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the weather, also for connections that are open.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(client: TcpStream, target: SocketAddr, mut forecast: watch::Receiver<Weather>) {
    if forecast
        .wait_for(|weather| *weather != Weather::Blackhole)
        .await
        .is_err()
    {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    // When either side ends, so does the whole.
    tokio::select! {
        () = pass(client_read, server_write, forecast.clone(), false) => {}
        () = pass(server_read, client_write, forecast, true) => {}
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut forecast: watch::Receiver<Weather>,
    answers: bool,
) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if forecast
            .wait_for(|weather| *weather != Weather::Blackhole)
            .await
            .is_err()
        {
            return;
        }
        let weather = *forecast.borrow();
        if let (Weather::Slow(delay), true) = (weather, answers) {
            tokio::time::sleep(delay).await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    async fn echo() -> Result<SocketAddr> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await?;
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await
        });
        Ok(address)
    }

    #[tokio::test]
    async fn what_a_blackhole_keeps_back_arrives_when_it_is_gone_and_slow_answers_are_late() -> Result<()> {
        let proxy = Proxy::start(echo().await?).await?;
        let mut stream = TcpStream::connect(proxy.address()).await?;
        let mut byte = [0];
        stream.write_all(b"a").await?;
        stream.read_exact(&mut byte).await?;

        proxy.set(Weather::Blackhole);
        stream.write_all(b"b").await?;
        let swallowed = tokio::time::timeout(Duration::from_millis(100), stream.read_exact(&mut byte)).await;
        assert!(swallowed.is_err(), "nothing comes through");
        proxy.set(Weather::Fair);
        stream.read_exact(&mut byte).await?;
        assert_eq!(&byte, b"b");

        let (delay, begun) = (Duration::from_millis(120), Instant::now());
        proxy.set(Weather::Slow(delay));
        stream.write_all(b"c").await?;
        stream.read_exact(&mut byte).await?;
        assert!(begun.elapsed() >= delay);
        Ok(())
    }
}
