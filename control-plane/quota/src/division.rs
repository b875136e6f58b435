//! Who ought to get which part of a limit: Doorman's proportional share above a floor. A pure function; whether the part may
//! be given already is another question (see [`Authority`](crate::Authority)).

use crate::Share;

/// The part of an equal share that everyone keeps, whatever the others ask for: 2 %. It is what a proxy whose demand begins
/// can serve until its first report is answered; more would be taken from those that have demand all the time.
pub const FLOOR_PERCENT: u64 = 2;

/// What there is to divide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Parts that are not held back for proxies that are silent.
    pub parts: Share,
    /// Proxies that divide them.
    pub proxies: u32,
}

impl Room {
    /// An equal part, rounded down.
    #[must_use]
    pub fn equal(self) -> Share {
        self.parts
            .wide()
            .checked_div(self.proxies.into())
            .map_or(Share::ZERO, Share::saturating)
    }

    /// The part that everyone keeps, rounded down.
    #[must_use]
    pub fn floor(self) -> Share {
        Share::saturating(self.equal().wide() * FLOOR_PERCENT / 100)
    }

    /// The part of one that asks for `demand` where all together ask for `total`, both in any one unit: the floor and, of what
    /// lies above all floors, a part by demand. Equal parts where nobody asks.
    #[must_use]
    pub fn part(self, demand: u64, total: u64) -> Share {
        if total == 0 {
            return self.equal();
        }
        let floor = self.floor().wide();
        let above = self.parts.wide().saturating_sub(floor * u64::from(self.proxies));
        let part = u128::from(above) * u128::from(demand.min(total)) / u128::from(total);
        Share::saturating(floor + u64::try_from(part).unwrap_or(above))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_asks_for_everything_gets_all_but_the_floors() {
        let room = Room {
            parts: Share::WHOLE,
            proxies: 4,
        };
        assert_eq!(room.floor().parts(), 5_000);
        assert_eq!(room.part(3, 3).parts(), 985_000);
        assert_eq!(room.part(0, 3).parts(), 5_000);
        assert_eq!(room.part(0, 0).parts(), 250_000);
    }

    #[test]
    fn nobody_gets_nothing() {
        let room = Room {
            parts: Share::WHOLE,
            proxies: 0,
        };
        assert_eq!(room.equal(), Share::ZERO);
        assert_eq!(room.part(0, 0), Share::ZERO);
    }

    proptest! {
        #[test]
        fn the_parts_are_at_most_the_whole_and_at_least_the_floor(
            parts in 0_u32..=1_000_000, demands in prop::collection::vec(0..=u64::from(u32::MAX), 1..200),
        ) {
            let room = Room { parts: Share::from_parts(parts), proxies: demands.len() as u32 };
            let total: u64 = demands.iter().sum();
            let shares: Vec<Share> = demands.iter().map(|demand| room.part(*demand, total)).collect();
            let sum: u64 = shares.iter().map(|share| share.wide()).sum();
            prop_assert!(sum <= room.parts.wide());
            // What is lost is lost by rounding: less than a part for each proxy, and for each floor.
            prop_assert!(sum + 2 * demands.len() as u64 > room.parts.wide());
            prop_assert!(shares.iter().all(|share| *share >= room.floor()));
        }

        #[test]
        fn who_asks_for_more_gets_no_less(
            own in 0..=u64::from(u32::MAX), more in 0..=u64::from(u32::MAX), others in 0..1_u64 << 44, proxies in 1_u32..5000,
        ) {
            let room = Room { parts: Share::WHOLE, proxies };
            prop_assume!(own + others > 0);
            prop_assert!(room.part(own + more, own + more + others) >= room.part(own, own + others));
        }
    }
}
