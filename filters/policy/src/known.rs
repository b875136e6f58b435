//! The headers that decisions read, found in one pass.

use crate::decision::{Refusal, RefusalReason};
use crate::headers;

/// The values of the headers that decisions read. Each may come once; the first one that comes twice is remembered.
#[derive(Default)]
pub(crate) struct Known<'a> {
    pub(crate) method: Option<&'a [u8]>,
    pub(crate) path: Option<&'a [u8]>,
    pub(crate) content_type: Option<&'a [u8]>,
    pub(crate) te: Option<&'a [u8]>,
    pub(crate) timeout: Option<&'a [u8]>,
    pub(crate) model: Option<&'a [u8]>,
    pub(crate) model_version: Option<&'a [u8]>,
    pub(crate) canary_weight: Option<&'a [u8]>,
    pub(crate) user_id: Option<&'a [u8]>,
    duplicate: Option<&'static str>,
}

impl<'a> Known<'a> {
    pub(crate) fn note(&mut self, name: &[u8], value: &'a [u8]) {
        let (slot, name) = match name {
            b":method" => (&mut self.method, headers::METHOD),
            b":path" => (&mut self.path, headers::PATH),
            b"content-type" => (&mut self.content_type, headers::CONTENT_TYPE),
            b"te" => (&mut self.te, headers::TE),
            b"grpc-timeout" => (&mut self.timeout, headers::GRPC_TIMEOUT),
            b"x-model" => (&mut self.model, headers::X_MODEL),
            b"x-model-version" => (&mut self.model_version, headers::X_MODEL_VERSION),
            b"x-canary-weight" => (&mut self.canary_weight, headers::X_CANARY_WEIGHT),
            b"x-user-id" => (&mut self.user_id, headers::X_USER_ID),
            _ => return,
        };
        if slot.is_some() {
            self.duplicate.get_or_insert(name);
        } else {
            *slot = Some(value);
        }
    }

    /// Two values for one meaning: which one counts would depend on who reads them, so neither does.
    pub(crate) fn check_duplicates(&self) -> Result<(), Refusal<'static>> {
        match self.duplicate {
            None => Ok(()),
            Some(name) => Err(Refusal::invalid(
                RefusalReason::DuplicateHeader,
                name,
                "is given more than once",
            )),
        }
    }
}
