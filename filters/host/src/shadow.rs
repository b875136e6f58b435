//! The cap on copies, which all workers of a proxy share.

use kilocard_policy::{Route, ShadowCopy, shadow};

use crate::abi::{self, HostError};

/// A copy is not worth more: with so many workers at it at once, the cap is about reached anyway.
const TRIES: usize = 8;

/// Whether this copy may be made.
pub(crate) fn admit(route: &Route<'_>, copy: &ShadowCopy<'_>) -> Result<bool, HostError> {
    let now = abi::current_time_ns()?;
    let key = format!("kilocard_shadow.{}", route.model);
    for _ in 0..TRIES {
        let (bytes, generation) = abi::shared_data(&key)?;
        let tat = bytes.as_slice().try_into().map_or(0, u64::from_le_bytes);
        let Some(next) = shadow::admit(tat, now, copy.max_per_second) else {
            return Ok(false);
        };
        if abi::swap_shared_data(&key, &next.to_le_bytes(), generation)? {
            return Ok(true);
        }
    }
    Ok(false)
}
