//! Requests that are refused, and with which words.

use super::{raw, start};
use crate::fixture::typed;
use bytes::Bytes;
use kilocard_proto::inference::{
    self as oip, InferTensorContents, ModelInferRequest, model_infer_request::InferInputTensor,
    model_infer_request::InferRequestedOutputTensor,
};
use tonic::Code;

type Edit = Box<dyn Fn(&mut ModelInferRequest)>;

fn edit(edit: impl Fn(&mut ModelInferRequest) + 'static) -> Edit {
    Box::new(edit)
}

fn ask_for_logits(request: &mut ModelInferRequest) {
    request.outputs = vec![InferRequestedOutputTensor {
        name: "logits".into(),
        ..Default::default()
    }];
}

fn bad_typed_requests() -> Vec<(Edit, Code, &'static str)> {
    let contents = |request: &mut ModelInferRequest, edit: fn(&mut InferTensorContents)| {
        edit(request.inputs[0].contents.get_or_insert_default());
    };
    vec![
        (
            edit(|r| r.model_name.clear()),
            Code::InvalidArgument,
            "model name is empty; this worker serves tiny/v1",
        ),
        (
            edit(|r| r.model_name = "huge".into()),
            Code::NotFound,
            "\"huge/v1\" is not served here",
        ),
        (
            edit(|r| r.inputs.clear()),
            Code::InvalidArgument,
            "exactly one input is needed",
        ),
        (
            edit(|r| r.inputs.push(InferInputTensor::default())),
            Code::InvalidArgument,
            "exactly one input is needed",
        ),
        (
            edit(|r| r.inputs[0].name = "prompt".into()),
            Code::InvalidArgument,
            "no input \"prompt\"",
        ),
        (
            edit(|r| r.inputs[0].datatype = "FP32".into()),
            Code::InvalidArgument,
            "\"FP32\", and must be BYTES",
        ),
        (
            edit(|r| r.inputs[0].shape = vec![]),
            Code::InvalidArgument,
            "has the shape []",
        ),
        (
            edit(|r| r.inputs[0].shape = vec![0]),
            Code::InvalidArgument,
            "has the shape [0]",
        ),
        (
            edit(|r| r.inputs[0].shape = vec![-1]),
            Code::InvalidArgument,
            "has the shape [-1]",
        ),
        (
            edit(|r| r.inputs[0].shape = vec![1, 2]),
            Code::InvalidArgument,
            "has the shape [1, 2]",
        ),
        (
            edit(|r| r.inputs[0].shape = vec![i64::MAX]),
            Code::InvalidArgument,
            "and the most is 1024",
        ),
        (
            edit(|r| r.inputs[0].shape = vec![3]),
            Code::InvalidArgument,
            "says it has 3 elements, and has 1",
        ),
        (
            edit(|r| r.inputs[0].contents = None),
            Code::InvalidArgument,
            "neither contents nor raw_input_contents",
        ),
        (
            edit(|r| r.raw_input_contents = vec![Bytes::from_static(b"\0\0\0\0")]),
            Code::InvalidArgument,
            "both contents and raw_input_contents",
        ),
        (
            edit(move |r| contents(r, |c| c.fp32_contents.push(1.0))),
            Code::InvalidArgument,
            "belong in bytes_contents only",
        ),
        (
            edit(move |r| contents(r, |c| c.bytes_contents[0] = vec![b'a'; (1 << 16) + 1].into())),
            Code::InvalidArgument,
            "text 0 has 65537 bytes, and the most is 65536",
        ),
        (
            edit(ask_for_logits),
            Code::InvalidArgument,
            "no output \"logits\"; the only one is \"embedding\"",
        ),
        (
            edit(|r| {
                r.inputs[0]
                    .parameters
                    .insert("shared_memory_region".into(), oip::InferParameter::default());
            }),
            Code::Unimplemented,
            "shared memory",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_contradict_themselves_are_refused_and_the_worker_serves_on() {
    let fixture = start(|_| ()).await;
    for (edit, code, message) in bad_typed_requests() {
        let mut request = typed(&["a"]);
        edit(&mut request);
        let status = fixture.infer(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(message), "{status}");
    }
    fixture.infer(typed(&["a"])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_a_mebibyte_is_refused_in_a_short_message() {
    let fixture = start(|_| ()).await;
    let long = || "x".repeat(1 << 20);
    let edits = [
        edit(move |r| r.model_name = long()),
        edit(move |r| r.model_version = long()),
        edit(move |r| r.inputs[0].name = long()),
        edit(move |r| r.inputs[0].datatype = long()),
        edit(move |r| r.inputs[0].shape = vec![1; 1 << 17]),
        edit(move |r| {
            ask_for_logits(r);
            r.outputs[0].name = long();
        }),
    ];
    for edit in edits {
        let mut request = typed(&["a"]);
        edit(&mut request);
        let status = fixture.infer(request).await.unwrap_err();
        assert!(
            matches!(status.code(), Code::InvalidArgument | Code::NotFound),
            "{status}"
        );
        assert!(status.message().len() < 400, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_contents_that_lie_are_refused() {
    let fixture = start(|_| ()).await;
    for (contents, message) in [
        (&b""[..], "says it has 1 elements, and raw_input_contents have 0"),
        (
            b"\x01\0\0",
            "end within the length of element 0: 4 bytes are needed, 3 are left",
        ),
        (
            b"\x05\0\0\0abc",
            "end within element 0: its length says 5 bytes, 3 are left",
        ),
        (
            b"\xff\xff\xff\xffabc",
            "end within element 0: its length says 4294967295 bytes, 3 are left",
        ),
        (b"\x01\0\0\0ab", "1 bytes follow them"),
        (b"\x01\0\0\0a\x01\0\0\0b", "5 bytes follow them"),
        (b"\x03\0\0\0ab\xff", "text 0 is not UTF-8: invalid at byte 2"),
    ] {
        let mut request = raw(&[b""]);
        request.raw_input_contents = vec![Bytes::from_static(contents)];
        let status = fixture.infer(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(message), "{status}");
    }
    let mut two = raw(&[b"a"]);
    two.raw_input_contents.push(Bytes::new());
    let status = fixture.infer(two).await.unwrap_err();
    assert!(
        status.message().contains("2 raw_input_contents for 1 inputs"),
        "{status}"
    );
}
