//! What is known of the replicas of a pool.

/// A replica.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Whether it takes requests.
    pub is_ready: bool,
    /// Whether what it reported is old. What an old report says is not believed.
    pub is_stale: bool,
    /// What it reported last.
    pub load: Load,
}

/// What a replica bears. What is absent, or no number that it can be, is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Requests per second.
    pub qps: Option<f64>,
    /// Memory in use, percent.
    pub memory_percent: Option<f64>,
    /// Sequences that wait.
    pub queue: Option<f64>,
}
