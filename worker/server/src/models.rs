//! What is served, and which version a request means.

use crate::quote::quote;
use kilocard_engine::{
    backend::{bert, device},
    embedder::{Embedder, Observer, Options},
    repository::{Repository, RepositoryError, VersionId},
};
use kilocard_registry::worker::ServedModel;
use std::{collections::BTreeMap, io, sync::Arc, time::Instant};

/// A version in service.
#[derive(Debug)]
pub struct Served {
    /// Which one.
    pub id: VersionId,
    /// What computes it.
    pub embedder: Embedder,
}

/// All versions in service.
#[derive(Debug)]
pub struct Models(BTreeMap<VersionId, Arc<Served>>);

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// The repository cannot be used.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A version cannot be loaded.
    #[error(transparent)]
    Load(#[from] bert::LoadError),
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] device::NoGpu),
    /// No thread to compute on.
    #[error("no thread to compute on: {0}")]
    Thread(#[from] io::Error),
    /// There is nothing to serve.
    #[error("the model repository {0} is empty; make a version with `kilocard-worker pack`")]
    Empty(String),
}

/// Why a request names nothing that can be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No model named.
    #[error("model name is empty; this worker serves {0}")]
    NoModel(String),
    /// Not here.
    #[error("{} is not served here; this worker serves {present}", quote(asked))]
    NotFound {
        /// What was asked for.
        asked: String,
        /// What there is.
        present: String,
    },
    /// The request contradicts the route that the mesh decided.
    #[error(
        "the request names {}, but the mesh routed it to {}; leave the version empty and pin it in the header x-model-version instead",
        quote(asked),
        quote(route)
    )]
    RouteConflict {
        /// What was asked for.
        asked: String,
        /// `x-kilocard-route`.
        route: String,
    },
    /// The route is not one.
    #[error("x-kilocard-route {} is not of the form model/version", quote(.0))]
    Route(String),
}

/// How to load.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// What to compute on.
    pub device: device::DeviceChoice,
    /// Texts that may wait, for each version.
    pub max_queue: usize,
    /// Most padded tokens in one batch; `None` for the device's default.
    pub max_batch_tokens: Option<usize>,
}

impl Models {
    /// Verifies and loads versions; all of the repository when none is named. Blocks for as long as that takes.
    ///
    /// # Errors
    /// The first version that cannot be served, and why.
    pub fn load(
        repository: &Repository,
        wanted: &[VersionId],
        options: LoadOptions,
        observer: impl Fn(&VersionId) -> Observer,
    ) -> Result<Self, ModelsError> {
        let device = device::select(options.device)?;
        let ids = if wanted.is_empty() {
            repository.versions()?
        } else {
            wanted.to_vec()
        };
        if ids.is_empty() {
            return Err(ModelsError::Empty(format!("{repository:?}")));
        }
        let mut models = BTreeMap::new();
        for id in ids {
            let started = Instant::now();
            let version = repository.open(&id)?;
            let (backend, tokenizer) = bert::load(&version, &device)?;
            let mut engine = Options::for_device(device.kind());
            engine.max_queue = options.max_queue;
            engine.budget.padded_tokens = options.max_batch_tokens.unwrap_or(engine.budget.padded_tokens);
            let embedder = Embedder::start(backend, tokenizer, engine, observer(&id))?;
            tracing::info!(version = %id, device = %device.kind(), took = ?started.elapsed(), "verified and loaded");
            models.insert(id.clone(), Arc::new(Served { id, embedder }));
        }
        Ok(Self(models))
    }

    /// Versions that are loaded already.
    #[cfg(test)]
    pub(crate) fn of(served: impl IntoIterator<Item = Served>) -> Self {
        Self(
            served
                .into_iter()
                .map(|served| (served.id.clone(), Arc::new(served)))
                .collect(),
        )
    }

    /// The versions, by model and then from the oldest to the newest.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.0.values()
    }

    /// The versions of one model, from the oldest to the newest.
    pub fn versions_of(&self, model: &str) -> impl Iterator<Item = &Arc<Served>> {
        self.iter().filter(move |served| served.id.model.as_str() == model)
    }

    /// As the worker's record tells it.
    pub fn served(&self) -> Vec<ServedModel> {
        let record = |id: &VersionId| ServedModel {
            model: id.model.to_string(),
            version: id.version.to_string(),
        };
        self.0.keys().map(record).collect()
    }

    /// What a request means. Its own words count; where it names no version, the mesh's route does; without that, the
    /// newest version.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub fn resolve(&self, model: &str, version: &str, route: Option<&str>) -> Result<&Arc<Served>, ResolveError> {
        if model.is_empty() {
            return Err(ResolveError::NoModel(self.present()));
        }
        let asked = || {
            if version.is_empty() {
                model.to_owned()
            } else {
                format!("{model}/{version}")
            }
        };
        let mut wanted = version;
        if let Some(route) = route {
            let (routed_model, routed_version) = route
                .split_once('/')
                .ok_or_else(|| ResolveError::Route(route.to_owned()))?;
            if routed_model != model || (!version.is_empty() && routed_version != version) {
                return Err(ResolveError::RouteConflict {
                    asked: asked(),
                    route: route.to_owned(),
                });
            }
            wanted = routed_version;
        }
        self.versions_of(model)
            .filter(|served| wanted.is_empty() || served.id.version.as_str() == wanted)
            .last()
            .ok_or_else(|| ResolveError::NotFound {
                asked: if wanted.is_empty() {
                    model.to_owned()
                } else {
                    format!("{model}/{wanted}")
                },
                present: self.present(),
            })
    }

    fn present(&self) -> String {
        self.0.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}
