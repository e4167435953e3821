//! Routes, each with who may use it.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either};
use http::Method;
use http::header::AUTHORIZATION;
use percent_encoding::percent_decode_str;
use tower::{Layer, Service};

use super::Identity;
use super::door::{Door, TurnedAway};
use super::knocks::{self, Knocking, Unwritten};
use crate::config::Scope;
use crate::error::{Error, Kind};
use crate::refusal;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Everybody: it tells nothing but that the process is there.
    Public,
    /// Whoever shows a token that is known: the answer to paths that are no route, so
    /// that strangers cannot tell them from those that are.
    Known,
    /// Whoever may read metrics; everybody, where the configuration says so.
    Metrics,
    /// Callers of pipelines and models.
    Predict,
    /// Who may load and unload models on the prediction listener: operators; and where requests
    /// load models, on a loopback address, for which nobody has a token, whoever reaches it.
    Models,
    /// Who may change settings of logs and traces on the prediction listener: operators; and
    /// where whoever reaches the admin listener may do everything, whoever reaches this one
    /// from the same machine.
    Settings,
    /// Plugin teams. The handler checks whose plugin it is: [`Identity::check_owner`].
    Deploy,
    /// Operators.
    Admin,
}

impl Access {
    /// Whether this identity may use such a route.
    pub fn allows(self, identity: &Identity) -> bool {
        match self {
            Self::Public | Self::Known => true,
            Self::Metrics => identity.has(Scope::Metrics),
            Self::Predict => identity.has(Scope::Predict),
            Self::Deploy => identity.has(Scope::PluginsDeploy),
            Self::Admin | Self::Models | Self::Settings => identity.is_admin(),
        }
    }
}

/// One row of a listener's table of routes.
pub struct Route<S> {
    /// The method.
    pub method: Method,
    /// The path's template, as axum and OpenAPI write it.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    /// What it does, in a few words.
    pub summary: &'static str,
    service: MethodRouter<S>,
}

impl<S: Clone + Send + Sync + 'static> Route<S> {
    fn new<H, T>(
        (method, filter): (Method, MethodFilter),
        path: &'static str,
        access: Access,
        summary: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        Self { method, path, access, summary, service: on(filter, handler) }
    }

    /// A `GET`, and with it `HEAD`.
    pub fn get<H, T>(path: &'static str, access: Access, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        Self::new((Method::GET, MethodFilter::GET), path, access, summary, handler)
    }

    /// A `POST`.
    pub fn post<H, T>(path: &'static str, access: Access, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        Self::new((Method::POST, MethodFilter::POST), path, access, summary, handler)
    }

    /// A `PUT`.
    pub fn put<H, T>(path: &'static str, access: Access, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        Self::new((Method::PUT, MethodFilter::PUT), path, access, summary, handler)
    }

    /// A `DELETE`.
    pub fn delete<H, T>(path: &'static str, access: Access, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        Self::new((Method::DELETE, MethodFilter::DELETE), path, access, summary, handler)
    }
}

/// A listener's router: every row behind its own check, and everything else behind one, as
/// `other` answers it.
pub fn router<S, H, T>(routes: Vec<Route<S>>, other: H, door: &Arc<Door>) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    H: Handler<T, S>,
    T: 'static,
{
    let check = |access, change| Check { door: Arc::clone(door), access, change };
    routes
        .into_iter()
        .fold(Router::new(), |router, route| {
            let change = knocks::change(&route.method, route.path);
            router.route(route.path, route.service.route_layer(check(route.access, change)))
        })
        .fallback(other.layer(check(Access::Known, None)))
        .method_not_allowed_fallback(Handler::<_, S>::layer(refusal::no_method, check(Access::Known, None)))
}

/// The check of one route.
#[derive(Clone)]
struct Check {
    door: Arc<Door>,
    access: Access,
    /// What the audit log calls it, if it changes something.
    change: Option<Arc<str>>,
}

impl<S> Layer<S> for Check {
    type Service = Enter<S>;

    fn layer(&self, inner: S) -> Enter<S> {
        Enter { check: self.clone(), inner }
    }
}

impl Check {
    fn let_in(&self, request: &Request) -> Result<Identity, TurnedAway> {
        let (uri, headers) = (request.uri(), request.headers());
        let identity = self.door.look(self.access, uri, headers, request.extensions().get())?;
        // The router would refuse such a path of a route in words of its own.
        let is_route = self.access != Access::Known;
        if is_route && percent_decode_str(uri.path()).decode_utf8().is_err() {
            let error = Error::new(Kind::BadRequest, "the path is not valid");
            return Err(TurnedAway { name: Some(identity.name), error });
        }
        Ok(identity)
    }
}

/// Lets a request in as somebody, or answers it.
///
/// A service of its own and no function with what comes next: it runs for each request, and
/// such a function's future and the service behind it are put on the heap each time.
#[derive(Clone)]
struct Enter<S> {
    check: Check,
    inner: S,
}

impl<S> Service<Request> for Enter<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let change = self.check.change.as_ref();
        let knocking = change.and_then(|route| Knocking::new(&self.check.door, route, &request));
        match self.check.let_in(&request) {
            Ok(identity) => {
                // Whatever works on the request has no need of the token, and cannot show it.
                request.headers_mut().remove(AUTHORIZATION);
                let name = Arc::clone(&identity.name);
                request.extensions_mut().insert(identity);
                let answer = self.inner.call(request);
                match knocking {
                    None => Either::Left(answer),
                    Some(knocking) => Either::Right(Box::pin(written(answer, knocking, name))),
                }
            }
            Err(turned_away) => Either::Right(Box::pin(refuse(turned_away, knocking, request).map(Ok))),
        }
    }
}

/// The answer to a change that was let in, once its refusal, if it is one, is written down.
async fn written<E>(
    answer: impl Future<Output = Result<Response, E>>,
    knocking: Knocking,
    name: Arc<str>,
) -> Result<Response, E> {
    let mut response = answer.await?;
    if let Some(Unwritten(why)) = response.extensions_mut().remove::<Unwritten>() {
        knocking.refused(Some(name), why).await;
    }
    Ok(response)
}

async fn refuse(turned_away: TurnedAway, knocking: Option<Knocking>, request: Request) -> Response {
    let TurnedAway { name, error } = turned_away;
    if let Some(knocking) = knocking {
        knocking.refused(name, error.kind()).await;
    }
    refusal::respond(error, request).await
}
