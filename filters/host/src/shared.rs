//! Values in Envoy's shared data that all threads change.

use crate::abi::{self, HostError};

/// How often to try to change a value that others change too.
const TRIES: usize = 16;

/// Changes a value as long as others do not; `change` is asked again with what they left, and may leave it as it is. Whether
/// it was changed.
pub(crate) fn swap(name: &str, mut change: impl FnMut(Vec<u8>) -> Option<Vec<u8>>) -> Result<bool, HostError> {
    for _ in 0..TRIES {
        let (bytes, generation) = abi::shared_data(name)?;
        let Some(changed) = change(bytes) else {
            return Ok(false);
        };
        if abi::swap_shared_data(name, &changed, generation)? {
            return Ok(true);
        }
    }
    Ok(false)
}
