//! The served models, and those that the upstreams list.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use serde_json::{Map, Value, json};
use tokio::time::advance;

use super::Api;
use crate::{Model, ModelsSource, Settings, Tenants};

fn model(id: &str, fields: &Value) -> Model {
    let fields: Map<String, Value> = fields.as_object().unwrap().clone();
    Model { id: id.to_owned(), owned_by: "lane".to_owned(), fields }
}

/// The models that the upstreams list; `None` if they fail.
type Listing = Arc<Mutex<Option<Vec<Model>>>>;

fn api(listed: &Listing) -> (Api, Arc<AtomicUsize>) {
    let (fetches, listed) = (Arc::<AtomicUsize>::default(), Arc::clone(listed));
    let count = Arc::clone(&fetches);
    let source = ModelsSource::new(move || {
        let (count, listed) = (Arc::clone(&count), Arc::clone(&listed));
        async move {
            count.fetch_add(1, Relaxed);
            tokio::task::yield_now().await;
            listed.lock().unwrap().clone()
        }
        .boxed()
    });
    let models = vec![model("configured", &json!({}))];
    let settings = Settings { models, models_source: Some(source), ..Settings::default() };
    (Api::with(settings, Tenants::open()), fetches)
}

async fn ids(api: &Api) -> Vec<String> {
    let list = api.get("/v1/models").await.ok(200).clone();
    let id = |model: &Value| model["id"].as_str().unwrap().to_owned();
    list["data"].as_array().unwrap().iter().map(id).collect()
}

#[tokio::test]
async fn a_model_is_shown_by_its_name() {
    let models = vec![model("x/one", &json!({})), model("two:latest", &json!({"created": 7}))];
    let api = Api::with(Settings { models, ..Settings::default() }, Tenants::open());
    let one = json!({ "created": 0, "id": "x/one", "object": "model", "owned_by": "lane" });
    assert_eq!(*api.get("/v1/models/x/one").await.ok(200), one);
    assert_eq!(*api.get("/v1/models/x%2Fone").await.ok(200), one);
    assert_eq!(api.get("/v1/models/two:latest").await.ok(200)["created"], 7);
    let answer = api.get("/v1/models/three").await;
    let error = &answer.ok(404)["error"];
    assert_eq!(error["code"], "model_not_found");
    assert_eq!(error["type"], "invalid_request_error");
    assert!(error["message"].as_str().unwrap().contains("`three`"), "{error}");
}

#[tokio::test]
async fn without_a_list_no_model_is_refused() {
    let models = vec![model("default", &json!({ "created": 7 }))];
    let settings = Settings { models, serves_any_model: true, ..Settings::default() };
    let api = Api::with(settings, Tenants::open());
    assert_eq!(api.get("/v1/models/default").await.ok(200)["created"], 7);
    let shown = api.get("/v1/models/x/gpt").await.ok(200).clone();
    let expected = json!({ "created": 0, "id": "x/gpt", "object": "model", "owned_by": "default" });
    assert_eq!(shown, expected);
    assert_eq!(ids(&api).await, ["default"]);
}

#[tokio::test]
async fn upstream_fields_of_a_model_pass() {
    let fields = json!({ "id": "m", "object": "x", "max_model_len": 8192, "created": "soon" });
    let (api, _) = api(&Arc::new(Mutex::new(Some(vec![model("m", &fields)]))));
    let shown = api.get("/v1/models/m").await.ok(200).clone();
    assert_eq!(
        shown,
        json!({
            "created": 0, "id": "m", "object": "model", "owned_by": "lane", "max_model_len": 8192
        })
    );
}

#[tokio::test(start_paused = true)]
async fn models_are_fetched_once_a_minute() {
    let listed = Arc::new(Mutex::new(Some(vec![model("real", &json!({}))])));
    let (api, fetches) = api(&listed);
    let (first, second) = tokio::join!(ids(&api), ids(&api));
    assert_eq!([first, second], [["real"], ["real"]]);
    advance(Duration::from_secs(59)).await;
    assert_eq!(ids(&api).await, ["real"]);
    assert_eq!(fetches.load(Relaxed), 1);
    *listed.lock().unwrap() = Some(vec![model("other", &json!({}))]);
    advance(Duration::from_secs(1)).await;
    assert_eq!(ids(&api).await, ["other"]);
    assert_eq!(fetches.load(Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_fetch_keeps_the_list() {
    let listed = Arc::default();
    let (api, fetches) = api(&listed);
    assert_eq!(ids(&api).await, ["configured"]);
    *listed.lock().unwrap() = Some(vec![model("real", &json!({}))]);
    assert_eq!(ids(&api).await, ["configured"], "no second fetch follows at once");
    advance(Duration::from_secs(5)).await;
    assert_eq!(ids(&api).await, ["real"]);
    *listed.lock().unwrap() = None;
    advance(Duration::from_secs(60)).await;
    assert_eq!(ids(&api).await, ["real"]);
    assert_eq!(fetches.load(Relaxed), 3);
}
