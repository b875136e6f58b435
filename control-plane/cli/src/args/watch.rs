//! The grammar of the commands that look at the mesh.

use super::values::parse_duration;
use clap::Args;
use std::time::Duration;

/// `kilocard status`
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  \
    kilocard status\n  \
    kilocard status --watch\n  \
    kilocard status --cluster minilm/v2\n  \
    kilocard status --control-plane http://10.0.0.5:18001 -o json")]
pub struct StatusArgs {
    /// Show it again and again, in place on a terminal and a line each elsewhere, until Ctrl-C
    #[arg(long, short = 'w')]
    pub watch: bool,
    /// Time between two looks, for --watch
    #[arg(long, default_value = "2s", value_parser = parse_interval, value_name = "TIME", requires = "watch")]
    pub interval: Duration,
    /// Show every endpoint, with its weight and why
    #[arg(long = "endpoints", id = "every_endpoint")]
    pub every_endpoint: bool,
    /// Show one cluster with its endpoints: MODEL/VERSION, or MODEL for all its versions
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Show every proxy, not only those that lack or refuse something
    #[arg(long = "proxies", id = "every_proxy")]
    pub every_proxy: bool,
}

impl Default for StatusArgs {
    fn default() -> Self {
        Self {
            watch: false,
            interval: Duration::from_secs(2),
            every_endpoint: false,
            cluster: None,
            every_proxy: false,
        }
    }
}

/// `kilocard devices`
#[derive(Args, Clone, Debug, Default)]
#[command(
    after_help = "Examples:\n  kilocard devices\n  kilocard devices --drained\n  kilocard devices --node gpu-a -o json"
)]
pub struct DevicesArgs {
    /// Only cards that get no new requests
    #[arg(long)]
    pub drained: bool,
    /// Only cards of this host
    #[arg(long, value_name = "HOST")]
    pub node: Option<String>,
}

/// A report is a whole picture of the mesh: not more often than five times a second.
const LEAST_INTERVAL: Duration = Duration::from_millis(200);

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < LEAST_INTERVAL {
        return Err(format!("{text} is too short; take 200ms or more"));
    }
    Ok(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_plane_is_not_asked_all_the_time() {
        assert_eq!(parse_interval("500ms"), Ok(Duration::from_millis(500)));
        assert!(parse_interval("0s").unwrap_err().contains("200ms or more"));
    }
}
