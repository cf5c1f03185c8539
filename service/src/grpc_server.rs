//! A gRPC server with one method.

use core::convert::Infallible;
use core::future::ready;
use core::pin::Pin;
use core::task::{Context, Poll};

use tonic::Status;
use tonic::codegen::{Body, Service, StdError, http};
use tonic::server::NamedService;

/// A response that is under way.
pub(crate) type Responding =
    Pin<Box<dyn Future<Output = Result<http::Response<tonic::body::Body>, Infallible>> + Send>>;

/// A gRPC service with one method.
pub(crate) trait OneMethod {
    /// The name of the service.
    const SERVICE: &'static str;
    /// The path of the method.
    const PATH: &'static str;

    /// Answers a request of the method.
    fn respond<B>(&self, request: http::Request<B>) -> Responding
    where
        B: Body + Send + 'static,
        B::Error: Into<StdError> + Send + 'static;
}

/// The server of a service with one method.
#[derive(Clone)]
pub(crate) struct GrpcServer<M>(pub(crate) M);

impl<M: OneMethod> NamedService for GrpcServer<M> {
    const NAME: &'static str = M::SERVICE;
}

impl<M, B> Service<http::Request<B>> for GrpcServer<M>
where
    M: OneMethod,
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Responding;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Responding {
        if request.uri().path() != M::PATH {
            return Box::pin(ready(Ok(Status::unimplemented("").into_http())));
        }
        self.0.respond(request)
    }
}
