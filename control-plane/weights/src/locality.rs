//! Where workers and proxies are.

use std::fmt::{Display, Formatter};

/// A zone, or a rack of it. The parts are empty where nobody says.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality {
    /// The zone.
    pub zone: String,
    /// The rack within the zone.
    pub rack: String,
}

/// What counts as a locality of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Nothing: all endpoints of a pool are as good for every proxy.
    None,
    /// Each zone.
    #[default]
    Zone,
    /// Each rack of each zone.
    Rack,
}

/// How far it is from one locality to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distance {
    /// They are the same.
    Here,
    /// Two racks of one zone.
    Zone,
    /// Anything else.
    Far,
}

impl Locality {
    /// What of this makes a difference.
    #[must_use]
    pub fn at(&self, level: Level) -> Self {
        match level {
            Level::None => Self::default(),
            Level::Zone => Self {
                zone: self.zone.clone(),
                rack: String::new(),
            },
            Level::Rack => self.clone(),
        }
    }

    /// How far the other one is.
    pub fn distance(&self, other: &Self) -> Distance {
        if self == other {
            Distance::Here
        } else if self.zone == other.zone && !self.zone.is_empty() {
            Distance::Zone
        } else {
            Distance::Far
        }
    }
}

/// `zone-a`, `zone-a/r7`, or `nowhere`.
impl Display for Locality {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match (self.zone.as_str(), self.rack.as_str()) {
            ("", "") => f.write_str("nowhere"),
            (zone, "") => f.write_str(zone),
            (zone, rack) => write!(f, "{zone}/{rack}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locality(zone: &str, rack: &str) -> Locality {
        Locality {
            zone: zone.to_owned(),
            rack: rack.to_owned(),
        }
    }

    #[test]
    fn a_rack_is_nearer_to_its_neighbours_than_to_other_zones() {
        let here = locality("a", "1");
        assert_eq!(here.distance(&here), Distance::Here);
        assert_eq!(here.distance(&locality("a", "2")), Distance::Zone);
        assert_eq!(here.distance(&locality("b", "1")), Distance::Far);
        // Racks of nobody's zone have nothing in common.
        assert_eq!(locality("", "1").distance(&locality("", "2")), Distance::Far);
    }

    #[test]
    fn what_is_below_the_level_makes_no_difference() {
        let here = locality("a", "1");
        assert_eq!(here.at(Level::Zone), locality("a", ""));
        assert_eq!(here.at(Level::None), Locality::default());
        assert_eq!(here.to_string(), "a/1");
        assert_eq!(here.at(Level::Zone).to_string(), "a");
    }
}
