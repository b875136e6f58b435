//! Blocks of IP addresses.

use std::fmt;
use std::net::IpAddr;

use crate::config::reader::Node;
use crate::config::text::is_text;
use crate::config::violation::{Violations, quote};

/// A block of addresses, or a single one (RFC 4632, RFC 4291). IPv4 addresses that come as IPv6 (`::ffff:10.0.0.1`) are
/// taken for what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

is_text!(Cidr, r"^[0-9a-fA-F:.]{2,45}(/[0-9]{1,3})?$");

impl Cidr {
    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4() && masked(address, self.prefix) == self.network
    }

    pub(super) fn read(node: &Node<'_>, out: &mut Violations) -> Option<Self> {
        let text = node.string(out)?;
        let Some((address, prefix)) = parse(text) else {
            let message = format!(
                "{} is not a block of addresses: use 10.0.0.0/8, 2001:db8::/32 or a single address",
                quote(text)
            );
            out.add(node.path(), message);
            return None;
        };
        let network = masked(address, prefix);
        if network != address {
            let message = format!(
                "{} has bits beyond its prefix: did you mean {network}/{prefix}?",
                quote(text)
            );
            out.add(node.path(), message);
            return None;
        }
        Some(Self { network, prefix })
    }
}

/// The address, not yet masked, and the length of the prefix.
fn parse(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let given: IpAddr = address.parse().ok()?;
    let address = given.to_canonical();
    let width = width(address);
    let Some(prefix) = prefix else {
        return Some((address, width));
    };
    let is_plain = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix: u8 = is_plain.then(|| prefix.parse().ok()).flatten()?;
    // `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
    let prefix = if given.is_ipv6() && address.is_ipv4() {
        prefix.checked_sub(96)?
    } else {
        prefix
    };
    (prefix <= width).then_some((address, prefix))
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let host = width(address).saturating_sub(prefix);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(host.into()).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(host.into()).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == width(self.network) {
            write!(f, "{}", self.network)
        } else {
            write!(f, "{}/{}", self.network, self.prefix)
        }
    }
}
