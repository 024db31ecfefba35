// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"connectrpc.com/connect"

	"github.com/vigie-io/vigie/internal/server"
)

// maxRequest is the size of a request in bytes: gRPC's own default; a policy or a filter with long lists fits.
const maxRequest = 4 << 20

// HandlerOptions are those of every call: the size of a request, and what happens to a call that panics.
func HandlerOptions(log *slog.Logger) []connect.HandlerOption {
	return []connect.HandlerOption{connect.WithReadMaxBytes(maxRequest), connect.WithRecover(
		func(_ context.Context, spec connect.Spec, _ http.Header, cause any) error {
			log.Error("a call failed: please report this", "procedure", spec.Procedure, "panic", cause)
			return connect.NewError(connect.CodeInternal, errors.New("the agent failed to answer, see its log"))
		})}
}

// Call is one unary call of a service.
type Call[Q, R any] func(context.Context, *Q) (*R, error)

// Handle serves a unary call.
func Handle[Q, R any](mux *http.ServeMux, procedure string, f Call[Q, R], options []connect.HandlerOption) {
	mux.Handle(procedure, connect.NewUnaryHandler(procedure, func(ctx context.Context, r *connect.Request[Q]) (*connect.Response[R], error) {
		answer, err := f(ctx, r.Msg)
		if err != nil {
			return nil, err
		}
		return connect.NewResponse(answer), nil
	}, options...))
}

// HandleStream serves a call that is answered by a stream.
func HandleStream[Q, R any](mux *http.ServeMux, procedure string,
	f func(context.Context, *connect.Request[Q], *connect.ServerStream[R]) error, options []connect.HandlerOption) {
	mux.Handle(procedure, connect.NewServerStreamHandler(procedure, f, options...))
}

// Change is a call that only those may make who may change what the agent does.
func Change[Q, R any](f Call[Q, R]) Call[Q, R] {
	return func(ctx context.Context, q *Q) (*R, error) {
		if err := server.CallerOf(ctx).MayChange(); err != nil {
			return nil, err
		}
		return f(ctx, q)
	}
}
