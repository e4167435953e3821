//! Routes, each with who may use it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;
use http::header::AUTHORIZATION;

use super::Identity;
use super::door::{Door, TurnedAway};
use super::knocks::{self, Knocking, Unwritten};
use crate::config::Scope;
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
    let check = |access, change| from_fn_with_state(Check { door: Arc::clone(door), access, change }, enter);
    routes
        .into_iter()
        .fold(Router::new(), |router, route| {
            let change = knocks::change(&route.method, route.path);
            router.route(route.path, route.service.route_layer(check(route.access, change)))
        })
        .fallback(other.layer(check(Access::Known, None)))
        .method_not_allowed_fallback(Handler::<_, S>::layer(refusal::no_method, check(Access::Known, None)))
        .layer(from_fn(refusal::in_the_table))
}

/// The check of one route.
#[derive(Clone)]
struct Check {
    door: Arc<Door>,
    access: Access,
    /// What the audit log calls it, if it changes something.
    change: Option<Arc<str>>,
}

/// Lets a request in as somebody, or answers it.
async fn enter(State(check): State<Check>, mut request: Request, next: Next) -> Response {
    let Check { door, access, change } = check;
    let knocking = change.and_then(|route| Knocking::new(&door, &route, &request));
    match door.look(access, request.uri(), request.headers(), request.extensions().get()) {
        Ok(identity) => {
            // Whatever works on the request has no need of the token, and cannot show it.
            request.headers_mut().remove(AUTHORIZATION);
            let name = Arc::clone(&identity.name);
            request.extensions_mut().insert(identity);
            let mut response = next.run(request).await;
            let unwritten = response.extensions_mut().remove::<Unwritten>();
            if let (Some(knocking), Some(Unwritten(why))) = (knocking, unwritten) {
                knocking.refused(Some(name), why).await;
            }
            response
        }
        Err(TurnedAway { name, error }) => {
            if let Some(knocking) = knocking {
                knocking.refused(name, error.kind()).await;
            }
            refusal::respond(error, request).await
        }
    }
}
