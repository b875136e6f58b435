//! What several proxies think of one endpoint, made into one verdict by the control plane.
//!
//! A proxy that sees an endpoint badly may have a bad link to a good endpoint. So it puts the endpoint out for itself at once,
//! and for all only if those that have seen as much of it say so too: more than half of what was lately expected of it, and two
//! proxies if there are two.

use std::collections::BTreeMap;
use std::time::Duration;

/// The constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// After so long a vote weighs half.
    pub half_life: Duration,
    /// Older votes do not count.
    pub most_age: Duration,
    /// Votes are kept of so many proxies.
    pub most_observers: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            half_life: Duration::from_secs(2),
            most_age: Duration::from_secs(5),
            most_observers: 4096,
        }
    }
}

/// A proxy's vote on an endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vote {
    /// Whether the proxy has put it out.
    pub is_bad: bool,
    /// What was lately expected of it there, in ends: [`Standing::exposure`](crate::pool::Standing::exposure).
    pub exposure: f64,
}

/// What all of them say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is to be put out for all.
    Eject,
    /// It is well, or only some links to it are bad.
    Keep,
    /// Too little was seen of it. Each proxy does as it sees fit.
    Unknown,
}

/// The votes on one endpoint.
#[derive(Clone, Debug, Default)]
pub struct Ballot {
    votes: BTreeMap<u64, (Vote, Duration)>,
}

impl Ballot {
    /// Takes a proxy's vote, in place of its last one. Who has put the endpoint out sends it nothing and sees nothing of it;
    /// its vote weighs what it did when it was made. Whether there was room.
    pub fn cast(&mut self, observer: u64, vote: Vote, now: Duration, settings: &Settings) -> bool {
        let exposure = if vote.exposure.is_finite() {
            vote.exposure.clamp(0.0, 1e9)
        } else {
            0.0
        };
        let mut vote = Vote { exposure, ..vote };
        if let Some((before, at)) = self.votes.get(&observer)
            && before.is_bad
            && vote.is_bad
            && now.saturating_sub(*at) <= settings.most_age
        {
            vote.exposure = vote.exposure.max(before.exposure);
        }
        if !self.votes.contains_key(&observer) && self.votes.len() >= settings.most_observers {
            self.votes
                .retain(|_, (_, at)| now.saturating_sub(*at) <= settings.most_age);
            if self.votes.len() >= settings.most_observers {
                return false;
            }
        }
        self.votes.insert(observer, (vote, now));
        true
    }

    /// The verdict at a moment.
    pub fn judge(&self, now: Duration, settings: &Settings) -> Verdict {
        let (mut observers, mut bad_observers) = (0, 0);
        let (mut bad, mut all) = (0.0, 0.0);
        for (vote, at) in self.votes.values() {
            let age = now.saturating_sub(*at);
            if age > settings.most_age {
                continue;
            }
            let halves = age.as_secs_f64() / settings.half_life.as_secs_f64().max(1e-3);
            let weight = vote.exposure * 0.5_f64.powf(halves);
            observers += 1;
            all += weight;
            if vote.is_bad && weight > 0.0 {
                bad_observers += 1;
                bad += weight;
            }
        }
        if bad_observers > 0 && bad * 2.0 > all && bad_observers >= observers.min(2) {
            Verdict::Eject
        } else if all - bad > 0.0 {
            Verdict::Keep
        } else {
            Verdict::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn judge(votes: &[(bool, f64, u64)]) -> Verdict {
        let settings = Settings::default();
        let mut ballot = Ballot::default();
        for (observer, (is_bad, exposure, age)) in votes.iter().enumerate() {
            let vote = Vote {
                is_bad: *is_bad,
                exposure: *exposure,
            };
            assert!(ballot.cast(observer as u64, vote, NOW - Duration::from_secs(*age), &settings));
        }
        ballot.judge(NOW, &settings)
    }

    #[test]
    fn one_bad_link_does_not_eject_a_good_endpoint() {
        assert_eq!(
            judge(&[(true, 30.0, 0), (false, 30.0, 0), (false, 30.0, 0)]),
            Verdict::Keep
        );
        assert_eq!(
            judge(&[(true, 900.0, 0), (false, 30.0, 0)]),
            Verdict::Keep,
            "however much it was sent"
        );
    }

    #[test]
    fn what_most_of_those_see_who_see_anything_holds_for_all() {
        assert_eq!(
            judge(&[(true, 30.0, 0), (true, 30.0, 0), (false, 30.0, 0)]),
            Verdict::Eject
        );
        assert_eq!(
            judge(&[(true, 5.0, 0), (true, 5.0, 0), (false, 30.0, 0)]),
            Verdict::Keep
        );
        assert_eq!(judge(&[(true, 30.0, 0)]), Verdict::Eject, "a mesh of one proxy");
    }

    #[test]
    fn nobody_decides_for_those_who_have_seen_nothing() {
        assert_eq!(judge(&[]), Verdict::Unknown);
        assert_eq!(judge(&[(true, 30.0, 0), (false, 0.0, 0)]), Verdict::Unknown);
        assert_eq!(judge(&[(true, f64::NAN, 0), (false, -1.0, 0)]), Verdict::Unknown);
    }

    #[test]
    fn old_votes_fade() {
        assert_eq!(
            judge(&[(true, 30.0, 0), (true, 30.0, 0), (false, 200.0, 4)]),
            Verdict::Eject
        );
        assert_eq!(
            judge(&[(true, 30.0, 0), (true, 30.0, 0), (false, 200.0, 1)]),
            Verdict::Keep
        );
        assert_eq!(judge(&[(true, 30.0, 6), (true, 30.0, 6)]), Verdict::Unknown);
    }

    #[test]
    fn a_vote_weighs_what_it_did_when_it_was_made() {
        let settings = Settings::default();
        let mut ballot = Ballot::default();
        for second in 0..20 {
            let now = NOW + Duration::from_secs(second);
            let exposure = if second == 0 { 30.0 } else { 0.0 };
            ballot.cast(1, Vote { is_bad: true, exposure }, now, &settings);
            ballot.cast(2, Vote { is_bad: true, exposure }, now, &settings);
            ballot.cast(
                3,
                Vote {
                    is_bad: false,
                    exposure: 9.0,
                },
                now,
                &settings,
            );
            assert_eq!(ballot.judge(now, &settings), Verdict::Eject);
        }
    }

    #[test]
    fn there_is_room_for_so_many_proxies_and_old_ones_make_way() {
        let settings = Settings {
            most_observers: 2,
            ..Settings::default()
        };
        let mut ballot = Ballot::default();
        let vote = Vote {
            is_bad: false,
            exposure: 1.0,
        };
        let cast = |ballot: &mut Ballot, observer, at| ballot.cast(observer, vote, Duration::from_secs(at), &settings);
        assert!(cast(&mut ballot, 1, 100) && cast(&mut ballot, 2, 100));
        assert!(!cast(&mut ballot, 3, 101));
        assert!(cast(&mut ballot, 3, 106));
    }
}
