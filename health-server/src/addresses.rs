//! The open connections of each client address, up to a limit.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use parking_lot::Mutex;

/// Counts the open connections of each address on one listener.
///
/// It has an entry for each address with an open connection, so the limit of all connections bounds it.
#[derive(Debug)]
pub(crate) struct Addresses {
    open: Mutex<HashMap<IpAddr, usize>>,
    max: usize,
}

/// The right of an address to one open connection.
#[derive(Debug)]
pub(crate) struct AddressPermit {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    /// Creates a table in which each address may have `max` open connections.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            open: Mutex::default(),
            max,
        }
    }

    /// Returns the permit for one more connection of an address, unless it has reached the limit.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<AddressPermit> {
        let address = network(address);
        let mut open = self.open.lock();
        let connections = open.entry(address).or_default();
        // The limit is at least 1, so an address with no open connection never leaves an entry here.
        if *connections >= self.max {
            return None;
        }
        *connections += 1;
        Some(AddressPermit {
            addresses: Arc::clone(self),
            address,
        })
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let mut open = self.addresses.open.lock();
        if let Some(connections) = open.get_mut(&self.address) {
            *connections -= 1;
            if *connections == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// Returns the address without the part that one customer can choose: the last 64 bits of IPv6.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_count_together() {
        let network = |text: &str| network(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }

    #[test]
    fn an_address_at_its_limit_waits_for_one_of_its_own_connections_to_end() {
        let addresses = Arc::new(Addresses::new(2));
        let [one, other] = ["2001:db8::1", "2001:db8:0:1::1"].map(|text| text.parse().unwrap());
        let first = addresses.admit(one).unwrap();
        let second = addresses.admit("2001:db8::2".parse().unwrap()).unwrap();
        assert!(addresses.admit(one).is_none());
        assert!(addresses.admit(other).is_some());
        drop(first);
        let third = addresses.admit(one).unwrap();
        assert!(addresses.admit(one).is_none());
        drop((second, third));
        assert!(addresses.open.lock().is_empty());
    }
}
