//! When a request or a stream is overdue, and by which deadline.
//!
//! A stream has no deadline for the whole: what is long and healthy is never cut. Its first message has one and the gap after
//! each message has one. A watchdog that looks every so often acts up to one such interval late.

use std::time::Duration;

/// The deadlines of a request; those that are absent do not bind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// From the request to the end of the answer: of unary calls.
    pub total: Option<Duration>,
    /// From the request to the first message.
    pub first_message: Option<Duration>,
    /// From one message to the next.
    pub gap: Option<Duration>,
    /// What the client has given, from the request on.
    pub client: Option<Duration>,
}

/// The deadline that was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The whole of a unary call.
    Total,
    /// The first message.
    FirstMessage,
    /// The gap between two messages.
    Gap,
    /// The client's own.
    Client,
}

impl Cause {
    /// A stable name, for metrics and error details.
    pub fn label(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::FirstMessage => "first-message",
            Self::Gap => "gap",
            Self::Client => "client-deadline",
        }
    }
}

/// A request in flight, as its watchdog sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    began: Duration,
    last_message: Option<Duration>,
    deadlines: Deadlines,
}

impl Watch {
    /// One that begins now.
    pub fn begin(now: Duration, deadlines: Deadlines) -> Self {
        Self {
            began: now,
            last_message: None,
            deadlines,
        }
    }

    /// A message has come. How long it took: since the request, of the first one, and since the one before, of the others.
    pub fn message(&mut self, now: Duration) -> Duration {
        let since = self.last_message.unwrap_or(self.began);
        self.last_message = Some(now.max(since));
        now.saturating_sub(since)
    }

    /// Whether a message has come. Nothing may be tried again after that.
    pub fn has_begun(&self) -> bool {
        self.last_message.is_some()
    }

    /// When it is overdue next, and by which deadline; nothing if none binds.
    pub fn due(&self) -> Option<(Duration, Cause)> {
        let Deadlines {
            total,
            first_message,
            gap,
            client,
        } = self.deadlines;
        let (phase, from, cause) = match self.last_message {
            None => (first_message, self.began, Cause::FirstMessage),
            Some(last) => (gap, last, Cause::Gap),
        };
        let all = [
            (client, self.began, Cause::Client),
            (total, self.began, Cause::Total),
            (phase, from, cause),
        ];
        let due = all
            .into_iter()
            .filter_map(|(limit, from, cause)| Some((from.saturating_add(limit?), cause)));
        due.min_by_key(|(at, _)| *at)
    }

    /// The deadline that has passed, and how long it was: the censored duration of its phase.
    pub fn overdue(&self, now: Duration) -> Option<(Cause, Duration)> {
        let (at, cause) = self.due().filter(|(at, _)| *at <= now)?;
        let from = match cause {
            Cause::Gap => self.last_message.unwrap_or(self.began),
            Cause::Total | Cause::FirstMessage | Cause::Client => self.began,
        };
        Some((cause, at.saturating_sub(from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    const STREAM: Deadlines = Deadlines {
        total: None,
        first_message: Some(ms(300)),
        gap: Some(ms(100)),
        client: None,
    };

    #[test]
    fn a_long_stream_whose_messages_come_is_never_overdue() {
        let mut watch = Watch::begin(ms(1000), STREAM);
        let mut now = ms(1290);
        for _ in 0..100_000 {
            assert_eq!(watch.overdue(now), None);
            watch.message(now);
            now += ms(99);
        }
    }

    #[test]
    fn a_first_message_that_does_not_come_and_a_gap_are_told_apart() {
        let mut watch = Watch::begin(ms(1000), STREAM);
        assert_eq!(watch.due(), Some((ms(1300), Cause::FirstMessage)));
        assert_eq!(watch.overdue(ms(1299)), None);
        assert_eq!(watch.overdue(ms(1350)), Some((Cause::FirstMessage, ms(300))));
        assert_eq!(watch.message(ms(1250)), ms(250));
        assert!(watch.has_begun());
        assert_eq!(watch.message(ms(1320)), ms(70));
        assert_eq!(watch.overdue(ms(1420)), Some((Cause::Gap, ms(100))));
    }

    #[test]
    fn the_clients_deadline_binds_a_stream_too() {
        let deadlines = Deadlines {
            client: Some(ms(350)),
            ..STREAM
        };
        let mut watch = Watch::begin(ms(1000), deadlines);
        watch.message(ms(1290));
        assert_eq!(watch.overdue(ms(1350)), Some((Cause::Client, ms(350))));
    }

    #[test]
    fn without_deadlines_nothing_is_overdue() {
        let watch = Watch::begin(ms(1), Deadlines::default());
        assert_eq!(watch.overdue(Duration::MAX), None);
    }

    #[test]
    fn a_clock_that_steps_back_shortens_nothing() {
        let mut watch = Watch::begin(ms(1000), STREAM);
        assert_eq!(watch.message(ms(400)), Duration::ZERO);
        assert_eq!(watch.due(), Some((ms(1100), Cause::Gap)));
    }
}
