//! What the keys of a limit hold in Envoy's memory, and that more keys than are declared hold no more.

use super::proxy::{Memory, Proxy};
use super::request;
use super::variant::{KEYS, Variant};
use crate::demo::say;
use crate::install::Install;
use crate::open_loop::OpenLoop;
use anyhow::Result;
use serde::Serialize;
use std::path::Path;

/// Users after which the memory is looked at; there is room for [`KEYS`].
const STEPS: [u32; 4] = [KEYS / 10, KEYS / 2, KEYS, 3 * KEYS];

/// How fast new users come.
const RATE: u32 = 5000;

/// Envoy's memory with so many keys.
#[derive(Debug, Serialize)]
pub(super) struct Sample {
    users: u32,
    memory: Memory,
}

/// Lets users come that have not been seen before, each once.
pub(super) async fn measure(install: &Install, dir: &Path) -> Result<Vec<Sample>> {
    let proxy = Proxy::start(install, dir, (Variant::UserLimit, 1), false).await?;
    // Warm: connections, caches, the VM's optimising compiler.
    let warming = OpenLoop {
        requests: RATE,
        rate: RATE,
        connections: 2,
    };
    warming
        .run(proxy.address(), &request::ask())
        .await?
        .all(request::PASSED)?;
    let mut samples = vec![Sample {
        users: 0,
        memory: proxy.memory().await?,
    }];
    let mut seen = 0;
    for users in STEPS {
        let asks: Vec<_> = (seen..users).map(request::of_user).collect();
        let load = OpenLoop {
            requests: users - seen,
            ..warming
        };
        load.answers(proxy.address(), &asks).await?;
        samples.push(Sample {
            users,
            memory: proxy.memory().await?,
        });
        seen = users;
    }
    Ok(samples)
}

pub(super) fn print(samples: &[Sample]) {
    say(&format!(
        "\nmemory of Envoy with a limit by user, room for {KEYS} keys, KiB; added to that without keys"
    ));
    say("   users   allocated   resident");
    let Some(first) = samples.first() else { return };
    for sample in samples {
        let more = |of: fn(&Memory) -> u64| of(&sample.memory).saturating_sub(of(&first.memory)) / 1024;
        say(&format!(
            "{:>8} {:>11} {:>10}",
            sample.users,
            more(|memory| memory.allocated),
            more(|memory| memory.resident),
        ));
    }
}
