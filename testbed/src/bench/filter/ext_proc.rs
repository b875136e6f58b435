//! The same decision in a server of its own: what Envoy's external processing costs, proxy and server together.
//!
//! As light as such a server can be made with tonic: one thread, the request's headers only, no channel and no task of its
//! own between a message and its answer, and the decision by the very `kilocard_policy` that the wasm module holds.

use crate::poll::{self, DEADLINE};
use crate::process::Process;
use anyhow::{Context, Result, anyhow};
use clap::Args;
use kilocard_policy::config::{FilterConfig, Violation};
use kilocard_policy::record::Record;
use kilocard_policy::{Policy, Refusal, RequestView, Route, Verdict, headers};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

mod wire {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
    tonic::include_proto!("envoy.service.ext_proc.v3");
}

use wire::external_processor_server::{ExternalProcessor, ExternalProcessorServer};
use wire::header_value_option::HeaderAppendAction;
use wire::processing_request::Request as Asked;
use wire::processing_response::Response as Answer;
use wire::value::Kind;
use wire::{
    CommonResponse, GrpcStatus, HeaderMutation, HeaderValue, HeaderValueOption, HeadersResponse, HttpHeaders,
    HttpStatus, ImmediateResponse, ProcessingRequest, ProcessingResponse, Struct, Value,
};

/// The namespace of its dynamic metadata.
pub(super) const METADATA: &str = "kilocard";

/// The server as a process of its own, so that its CPU can be told from the generator's.
#[derive(Args, Clone, Debug)]
pub struct Serve {
    /// The filter configuration, as JSON
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Where to write the address it serves on
    #[arg(long, value_name = "FILE")]
    address_file: PathBuf,
}

impl Serve {
    /// Serves until the process is ended.
    pub(crate) async fn run(self) -> Result<()> {
        let policy = compile(&std::fs::read(&self.config)?)?;
        let (tell, ended) = oneshot::channel();
        // One thread: more would only pass requests between them. Not one of the runtime's, which would wait for it when
        // this process is told to end.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let outcome = runtime.map_err(anyhow::Error::from);
            let outcome = outcome.and_then(|runtime| runtime.block_on(serve(policy, &self.address_file)));
            // Nobody listens any more when the process ends.
            let _ = tell.send(outcome);
        });
        ended.await?
    }
}

fn compile(json: &[u8]) -> Result<Policy> {
    let refused = |violations: Vec<Violation>| anyhow!("{violations:?}");
    let config = FilterConfig::parse(json).map_err(refused)?;
    Policy::compile(&config.revision, &config.documents).map_err(refused)
}

async fn serve(policy: Policy, address_file: &Path) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let fresh = address_file.with_extension("new");
    std::fs::write(&fresh, listener.local_addr()?.to_string())?;
    std::fs::rename(&fresh, address_file)?;
    let processor = Processor {
        policy: Arc::new(policy),
    };
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .add_service(ExternalProcessorServer::new(processor))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?;
    Ok(())
}

struct Processor {
    policy: Arc<Policy>,
}

#[tonic::async_trait]
impl ExternalProcessor for Processor {
    type ProcessStream = Pin<Box<dyn Stream<Item = Result<ProcessingResponse, Status>> + Send>>;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let policy = self.policy.clone();
        let answers = request.into_inner().map(move |message| match message?.request {
            Some(Asked::RequestHeaders(asked)) => Ok(decide(&policy, &asked)),
            None => Err(Status::invalid_argument("only request headers are processed here")),
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// What the filter does with a request, as a message.
fn decide(policy: &Policy, asked: &HttpHeaders) -> ProcessingResponse {
    let map = asked.headers.as_ref().map_or(&[][..], |map| &map.headers);
    let pairs: Vec<(&[u8], &[u8])> = map
        .iter()
        .map(|header| (header.key.as_bytes(), header.raw_value.as_slice()))
        .collect();
    let decision = policy.decide(&RequestView::new(&pairs), fastrand::u64(..));
    let record = Record::of(policy.revision(), &decision).to_string();
    let answer = match &decision.verdict {
        Verdict::Pass => Answer::RequestHeaders(forward(&pairs, None)),
        Verdict::Route(route) => Answer::RequestHeaders(forward(&pairs, Some(route))),
        Verdict::Refuse(refusal) => Answer::ImmediateResponse(refuse(refusal)),
    };
    ProcessingResponse {
        response: Some(answer),
        dynamic_metadata: Some(metadata(record)),
    }
}

/// `{kilocard: {decision: RECORD}}`: what the filter leaves as filter state, for the access log.
fn metadata(record: String) -> Struct {
    let entry = |name: &str, kind| Struct {
        fields: [(name.to_owned(), Value { kind: Some(kind) })].into(),
    };
    let decision = entry("decision", Kind::StringValue(record));
    entry(METADATA, Kind::StructValue(decision))
}

fn forward(pairs: &[(&[u8], &[u8])], route: Option<&Route<'_>>) -> HeadersResponse {
    let internal = pairs.iter().filter(|(name, _)| headers::is_internal(name));
    let mutation = HeaderMutation {
        set_headers: route.map(marks).unwrap_or_default(),
        remove_headers: internal
            .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
            .collect(),
    };
    HeadersResponse {
        response: Some(CommonResponse {
            header_mutation: Some(mutation),
            // Envoy does so by itself after a filter in wasm or Lua.
            clear_route_cache: true,
        }),
    }
}

/// The headers that carry a decision on.
fn marks(route: &Route<'_>) -> Vec<HeaderValueOption> {
    let mut marks = vec![set(headers::ROUTE, route.route_key)];
    marks.extend(route.gpu.as_ref().map(|wish| set(headers::GPU_WISH, &wish.subset)));
    marks.extend(route.tag.as_ref().map(|tag| set(headers::TAG, tag)));
    marks
}

fn refuse(refusal: &Refusal<'_>) -> ImmediateResponse {
    ImmediateResponse {
        status: Some(HttpStatus {
            code: i32::try_from(refusal.status.http_status()).unwrap_or(500),
        }),
        headers: Some(HeaderMutation {
            set_headers: vec![set(headers::REASON, refusal.reason.label())],
            remove_headers: Vec::new(),
        }),
        body: refusal.message.clone().into_bytes(),
        grpc_status: Some(GrpcStatus {
            status: refusal.status.code(),
        }),
        details: format!("kilocard_refused_{}", refusal.reason.label()),
    }
}

fn set(name: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_owned(),
            raw_value: value.as_bytes().to_vec(),
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
    }
}

/// A running server; it ends when dropped.
#[derive(Debug)]
pub(super) struct Server {
    process: Process,
    address: SocketAddr,
}

impl Server {
    /// Starts this very program as the server.
    pub(super) async fn start(dir: &Path, name: &str, config: &str) -> Result<Self> {
        let (config_file, address_file) = (dir.join(format!("{name}.config")), dir.join(format!("{name}.address")));
        std::fs::write(&config_file, config)?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["bench", "ext-proc-server", "--config"])
            .arg(&config_file)
            .arg("--address-file")
            .arg(&address_file);
        let mut process = Process::start(name, command, &dir.join(format!("{name}.log")))?;
        let address = poll::until("the ext_proc server to listen", DEADLINE, async || {
            if let Err(ended) = process.check() {
                return Ok(Err(ended));
            }
            let text = std::fs::read_to_string(&address_file)?;
            Ok(Ok(text.parse().with_context(|| format!("the address {text:?}"))?))
        })
        .await??;
        Ok(Self { process, address })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::starter;
    use prost::Message as _;

    fn policy() -> Policy {
        Policy::compile("test", &[starter::routing_document(10).unwrap()]).unwrap()
    }

    fn asked(more: &[(&str, &str)]) -> HttpHeaders {
        let stock = [
            (":method", "POST"),
            (":path", "/inference.GRPCInferenceService/ServerReady"),
            ("content-type", "application/grpc"),
        ];
        let headers = stock.iter().chain(more).map(|(key, value)| HeaderValue {
            key: (*key).to_owned(),
            raw_value: value.as_bytes().to_vec(),
        });
        HttpHeaders {
            headers: Some(wire::HeaderMap {
                headers: headers.collect(),
            }),
        }
    }

    #[test]
    fn a_good_request_gets_its_route_and_loses_what_is_internal() {
        let headers = asked(&[("x-model-version", "v2"), ("x-kilocard-route", "minilm/v1")]);
        let Some(Answer::RequestHeaders(answer)) = decide(&policy(), &headers).response else {
            panic!("refused");
        };
        let mutation = answer.response.unwrap().header_mutation.unwrap();
        let route = mutation
            .set_headers
            .iter()
            .find_map(|option| option.header.as_ref().filter(|header| header.key == headers::ROUTE));
        assert_eq!(route.unwrap().raw_value, b"minilm/v2");
        assert_eq!(mutation.remove_headers, [headers::ROUTE]);
    }

    #[test]
    fn a_bad_request_is_answered_with_grpc_and_http_status() {
        let Some(Answer::ImmediateResponse(answer)) = decide(&policy(), &asked(&[("x-user-id", "a b")])).response
        else {
            panic!("passed");
        };
        assert_eq!(
            (answer.grpc_status.unwrap().status, answer.status.unwrap().code),
            (3, 400)
        );
    }

    #[test]
    fn the_subset_reads_what_envoy_sends_and_skips_the_rest() {
        // request_headers { headers { headers { key: "te" raw_value: "trailers" } } end_of_stream: true }, and
        // observability_mode (10), which the subset does not have.
        let header = b"\x0a\x02te\x1a\x08trailers";
        let mut map = vec![0x0a, u8::try_from(header.len()).unwrap()];
        map.extend_from_slice(header);
        let mut headers = vec![0x0a, u8::try_from(map.len()).unwrap()];
        headers.extend(map);
        headers.extend([0x18, 1]);
        let mut message = vec![0x12, u8::try_from(headers.len()).unwrap()];
        message.extend(headers);
        message.extend([0x50, 1]);
        let request = ProcessingRequest::decode(message.as_slice()).unwrap();
        let Some(Asked::RequestHeaders(headers)) = request.request else {
            panic!("no headers");
        };
        let map = headers.headers.unwrap();
        assert_eq!(
            (map.headers[0].key.as_str(), map.headers[0].raw_value.as_slice()),
            ("te", &b"trailers"[..])
        );
    }
}
