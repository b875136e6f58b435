//! TCP connections as the kernel lists them (`/proc/net/tcp`, proc(5)).

use anyhow::{Context, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Ticks of the timers in the list (`USER_HZ`, the same on every Linux).
const TICKS_PER_SECOND: u64 = 100;
/// The state of a connection that is up.
const ESTABLISHED: &str = "01";
/// The timer that is running is the one of the keep-alive.
const KEEPALIVE: &str = "02";

/// One end of a connection that is up, if both ends are IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// This end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// In how long the kernel will send its next probe, if it does and nothing else is due before.
    pub probe_in: Option<Duration>,
}

/// Every such connection in this network namespace, on loopback each end by itself.
///
/// # Errors
/// If the list cannot be read.
pub fn established() -> Result<Vec<Socket>> {
    let list = std::fs::read_to_string("/proc/net/tcp").context("read /proc/net/tcp")?;
    Ok(list.lines().skip(1).filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Socket> {
    let mut fields = line.split_whitespace().skip(1);
    let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
    let (timer, ticks) = fields.nth(1)?.split_once(':')?;
    let ticks = u64::from_str_radix(ticks, 16).ok()?;
    (state == ESTABLISHED).then_some(Socket {
        local: address(local)?,
        remote: address(remote)?,
        probe_in: (timer == KEEPALIVE).then(|| Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)),
    })
}

/// `0100007F:1F90` is 127.0.0.1:8080: the address as the machine's own integer, the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let ip = u32::from_str_radix(ip, 16).ok()?.to_ne_bytes();
    Some((Ipv4Addr::from(ip), u16::from_str_radix(port, 16).ok()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_both_ends_and_when_the_next_probe_is_due() {
        let line = "   7: 0100007F:1F90 0100007F:C350 01 00000000:00000000 02:00000BB8 00000000     0        0 1 2 ffff 20 4 30 10 -1";
        let expected = Socket {
            local: "127.0.0.1:8080".parse().unwrap(),
            remote: "127.0.0.1:50000".parse().unwrap(),
            probe_in: Some(Duration::from_secs(30)),
        };
        assert_eq!(parse(line), Some(expected));
        let without = parse(&line.replace("02:00000BB8", "00:00000000")).unwrap();
        assert_eq!(without.probe_in, None);
        assert_eq!(
            parse(&line.replace(" 01 ", " 0A ")),
            None,
            "a listener is no connection"
        );
    }
}
