//! Routes, and listening.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::runtime;

use super::api::{course, inside, needs, play, runs, tokens, training, vectors};
use super::catalog::Catalog;
use super::engine::Engine;
use super::http::access::Access;
use super::http::answer::Failure;
use super::http::connections;
use super::openai;
use super::{Studio, pages};
use crate::config::Device;

/// Where to listen, and what to serve.
pub struct ServerOptions {
    /// The address; other machines reach it unless it is a loopback address.
    pub host: String,
    /// The port; 0 for a free one.
    pub port: u16,
    /// The model that is listed first.
    pub first: Option<PathBuf>,
    /// Where MLX computes.
    pub device: Device,
}

/// A server that listens, and does not answer yet.
pub struct Server {
    listener: TcpListener,
    studio: Arc<Studio>,
    url: String,
    pages: bool,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// No such address, or a port that is taken.
    pub fn bind(options: ServerOptions) -> Result<Self> {
        let (host, port) = (options.host, options.port);
        let listener = TcpListener::bind((host.as_str(), port)).with_context(|| {
            format!("--host {host} --port {port} cannot be listened on; choose another --port, or 0 for a free one")
        })?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let access = Access::new(address)?;
        Ok(Self {
            url: access.url(address),
            studio: Arc::new(Studio {
                catalog: Catalog { first: options.first },
                engine: Engine::start(options.device)?,
                access,
            }),
            listener,
            pages: false,
        })
    }

    /// The address to open, with the token where it is needed.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same server with the pages.
    pub fn with_pages(self) -> Self {
        Self { pages: true, ..self }
    }

    /// Answers requests until the process ends.
    ///
    /// # Errors
    /// The system refuses.
    pub fn run(self) -> Result<()> {
        // One thread is enough for what waits on the model most of the time.
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(self.listener)?;
            connections::accept(listener, router(self.studio, self.pages)).await
        })
    }
}

fn router(studio: Arc<Studio>, with_pages: bool) -> Router {
    let routes = match with_pages {
        true => page_routes(),
        // The printed address answers.
        false => Router::new().route("/", get(openai::models)),
    };
    routes
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{*id}", get(openai::model))
        .route("/v1/completions", post(openai::completions))
        .route("/v1/chat/completions", post(openai::chat))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&studio), guard))
        .with_state(studio)
}

fn page_routes() -> Router<Arc<Studio>> {
    Router::new()
        .route("/", get(pages::index))
        .route("/assets/{name}", get(pages::asset))
        .route("/api/models", get(pages::models))
        .route("/api/runs", get(runs::list).post(training::create))
        .route("/api/needs", post(needs::needs))
        .route("/api/runs/stop", post(runs::stop))
        .route("/api/runs/resume", post(runs::resume))
        .route("/api/metrics", get(runs::metrics))
        .route("/api/samples", get(runs::samples))
        .route("/api/log", get(runs::log))
        .route("/api/generate", post(play::generate))
        .route("/api/inside", post(inside::inside))
        .route("/api/attention", post(inside::attention))
        .route("/api/patch", post(inside::patch))
        .route("/api/vectors", post(vectors::vectors))
        .route("/api/tokens", post(tokens::tokens))
        .route("/api/merges", post(tokens::merges))
        .route("/api/course", get(course::days))
        .route("/api/course/{day}", get(course::chapter))
        .route("/api/course/{day}/{picture}", get(course::picture))
}

async fn not_found(request: Request) -> Failure {
    Failure::new(StatusCode::NOT_FOUND, format!("there is no {}", request.uri().path()))
}

async fn wrong_method(request: Request) -> Failure {
    let message = format!("{} does not take {}", request.uri().path(), request.method());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

/// Refuses what may not ask, and says what a browser may do with the answer.
async fn guard(State(studio): State<Arc<Studio>>, request: Request, next: Next) -> Response {
    let uri = request.uri();
    let checked = studio
        .access
        .check(request.method(), uri.path(), uri.query(), request.headers());
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err((status, reason)) => Failure::new(status, reason).into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
