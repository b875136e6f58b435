//! The benches: `cargo xtask bench`.

use anyhow::{Result, bail};

/// One bench by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bench {
    /// What one types.
    pub(crate) name: &'static str,
    /// What it measures.
    pub(crate) about: &'static str,
    /// The package whose criterion benches belong to it: the part that needs no process.
    pub(crate) criterion: Option<&'static str>,
}

/// Every bench, in the order in which they run.
pub(crate) const ALL: [Bench; 6] = [
    Bench {
        name: "admission",
        about: "a worker that really runs out of memory at 2 x overload: no limit, queries only, GPU memory only, both; lost, p50/p99, goodput",
        criterion: None,
    },
    Bench {
        name: "changes",
        about: "requests dropped during 10,000 random changes of the configuration under load, with the upper bound (--changes N)",
        criterion: None,
    },
    Bench {
        name: "filter",
        about: "a decision natively in ns, by stage and number of rules; in Envoy CPU per request and memory: our modules, Lua, ext_proc",
        criterion: Some("kilocard-policy"),
    },
    Bench {
        name: "pools",
        about: "interactive requests beside a burst of batch work: one pool for both, and pools of their own; refusals, connections",
        criterion: None,
    },
    Bench {
        name: "push",
        about: "from a write in etcd to its effect on a client, p50 and p99 over 200 policy changes",
        criterion: None,
    },
    Bench {
        name: "xds",
        about: "the control plane with 1,000 simulated proxies and 10,000 endpoints: latency, CPU, memory, bytes, reconnect storms, growth",
        criterion: None,
    },
];

/// The benches that a name selects; none means all.
pub(crate) fn select(name: Option<&str>) -> Result<Vec<Bench>> {
    let Some(name) = name else { return Ok(ALL.to_vec()) };
    match ALL.iter().find(|bench| bench.name == name) {
        Some(bench) => Ok(vec![*bench]),
        None => {
            let known: Vec<_> = ALL.iter().map(|bench| bench.name).collect();
            bail!("there is no bench {name:?}; there are: {}", known.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_selects_all_and_an_unknown_one_is_refused_with_the_known() {
        assert_eq!(select(None).unwrap().len(), ALL.len());
        assert_eq!(select(Some("push")).unwrap()[0].name, "push");
        assert!(
            select(Some("pull"))
                .unwrap_err()
                .to_string()
                .contains("admission, changes, filter, pools, push")
        );
    }
}
