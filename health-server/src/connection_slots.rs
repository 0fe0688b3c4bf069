//! How many connections of one kind may be open: in all, and from one address.

use std::{net::IpAddr, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::addresses::{AddressPermit, Addresses};

/// The slots for connections of one kind.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionSlots {
    /// Holds a permit for each further connection that may be open.
    permits: Arc<Semaphore>,
    /// The open connections of each client address.
    addresses: Arc<Addresses>,
}

/// The right to one open connection.
#[derive(Debug)]
pub(crate) struct ConnectionSlot {
    _of_address: AddressPermit,
    _of_all: OwnedSemaphorePermit,
}

/// Which limit of open connections is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionLimit {
    /// The limit of all connections.
    Total,
    /// The limit of the connections from one address.
    OfAddress,
}

impl ConnectionSlots {
    pub(crate) fn new(connections: usize, connections_per_address: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(connections)),
            addresses: Arc::new(Addresses::new(connections_per_address)),
        }
    }

    /// Returns the slot of one more connection.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) fn take(&self, peer: IpAddr) -> Result<ConnectionSlot, ConnectionLimit> {
        let of_address = self.of_address(peer)?;
        let of_all = self.of_all().ok_or(ConnectionLimit::Total)?;
        Ok(ConnectionSlot::new(of_address, of_all))
    }

    /// Returns the first half of a slot.
    pub(crate) fn of_address(&self, peer: IpAddr) -> Result<AddressPermit, ConnectionLimit> {
        self.addresses.admit(peer).ok_or(ConnectionLimit::OfAddress)
    }

    /// Returns the other half of a slot, unless the limit of all connections is reached.
    pub(crate) fn of_all(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    /// Waits for the other half of a slot.
    pub(crate) async fn wait_for_all(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }
}

impl ConnectionSlot {
    pub(crate) fn new(of_address: AddressPermit, of_all: OwnedSemaphorePermit) -> Self {
        Self {
            _of_address: of_address,
            _of_all: of_all,
        }
    }
}
