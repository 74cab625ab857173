//! The memory of an incomplete message of a WebSocket.

use crate::budget::{BudgetCharge, BudgetLimit, Budgets, Payer, SMALL};

/// The received part of an incomplete message.
#[derive(Debug)]
pub(super) struct Unread {
    payer: Payer,
    bytes: usize,
    /// The charge for the bytes beyond a small message.
    charge: Option<BudgetCharge>,
}

impl Unread {
    pub(super) const fn new(payer: Payer) -> Self {
        Self { payer, bytes: 0, charge: None }
    }

    /// Ends the message.
    pub(super) fn complete(&mut self) {
        (self.bytes, self.charge) = (0, None);
    }

    /// Charges further `bytes` of the message.
    ///
    /// # Errors
    /// The limit that leaves no room for them.
    pub(super) fn receive(&mut self, bytes: usize, budgets: &Budgets) -> Result<(), BudgetLimit> {
        self.bytes += bytes;
        let charged = self.charge.as_ref().map_or(SMALL, BudgetCharge::bytes);
        if self.bytes <= charged {
            return Ok(());
        }
        // Charging in powers of two keeps the number of charges logarithmic.
        let room = self.bytes.next_power_of_two();
        self.charge = Some(match self.charge.take() {
            Some(charge) => budgets.grow(charge, room)?,
            None => budgets.take(&self.payer, room)?,
        });
        Ok(())
    }
}
