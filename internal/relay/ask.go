// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
)

// maxAsked is how many nodes are asked at once for one client.
const maxAsked = 64

// method is a unary call of the API.
type method[Q, R any] func(vigiev1connect.VigieClient, context.Context, *connect.Request[Q]) (*connect.Response[R], error)

// answer is what one node answered.
type answer[M any] struct {
	node *node
	R    *M
}

// ask calls every node at once, each for at most the timeout. What does not answer is told in the errors, and holds nobody
// up: a node that is known to be away is not asked. An error is for when no node answered: what all of them said, or that there
// is none.
func ask[Q, R any](ctx context.Context, nodes []*node, name string, timeout time.Duration, request func(*node) *Q,
	call method[Q, R]) ([]answer[R], []*pb.NodeError, error) {
	return askEach(ctx, nodes, func(ctx context.Context, n *node) (*R, error) {
		return askOne(ctx, n, name, timeout, request(n), call)
	})
}

func askEach[R any](ctx context.Context, nodes []*node, call func(context.Context, *node) (*R, error)) ([]answer[R], []*pb.NodeError, error) {
	answers, failed := make([]*R, len(nodes)), make([]error, len(nodes))
	places := make(chan struct{}, maxAsked)
	var wg sync.WaitGroup
	for i, n := range nodes {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			answers[i], failed[i] = call(ctx, n)
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	var out []answer[R]
	var errs []*pb.NodeError
	for i, n := range nodes {
		if failed[i] != nil {
			errs = append(errs, nodeError(n, failed[i]))
			continue
		}
		out = append(out, answer[R]{n, answers[i]})
	}
	if len(out) == 0 {
		return nil, nil, nobody(failed, nodes)
	}
	return out, errs, nil
}

// askOne calls one node.
func askOne[Q, R any](ctx context.Context, n *node, name string, timeout time.Duration, q *Q, call method[Q, R]) (*R, error) {
	return patiently(ctx, n, name, timeout, func(ctx context.Context) (*connect.Response[R], error) {
		return call(n.client, ctx, connect.NewRequest(q))
	})
}

// patiently makes a call to a node that ends with the timeout, or when the node goes away.
func patiently[R any](ctx context.Context, n *node, name string, timeout time.Duration, call func(context.Context) (*connect.Response[R], error)) (*R, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, connect.NewError(connect.CodeDeadlineExceeded, fmt.Errorf("it did not answer within %v", timeout)))
	defer cancel()
	during, done, err := n.during(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	r, err := call(during)
	switch {
	case err == nil:
		return r.Msg, nil
	case connect.CodeOf(err) == connect.CodeUnimplemented:
		n.lacks(name)
		return nil, connect.NewError(connect.CodeUnimplemented, fmt.Errorf("its agent is older and does not know %s: upgrade it", name))
	}
	return nil, because(during, err)
}

// nobody is the error for a question that no node answered.
func nobody(failed []error, nodes []*node) error {
	if len(nodes) == 0 {
		return connect.NewError(connect.CodeUnavailable, errors.New("no node is in the list, or none of those asked for: see `vigie status`"))
	}
	var reasons []string
	code := connect.CodeOf(failed[0])
	for i, err := range failed {
		if c := connect.CodeOf(err); c == connect.CodeInvalidArgument || c == connect.CodeNotFound || c == connect.CodeFailedPrecondition {
			return connect.NewError(c, errors.New(text(err))) // one that looked at the question
		}
		if len(reasons) < 3 {
			reasons = append(reasons, nodes[i].called()+": "+text(err))
		}
	}
	if more := len(failed) - len(reasons); more > 0 {
		reasons = append(reasons, fmt.Sprintf("and %d more", more))
	}
	if code == connect.CodeUnknown || code == connect.CodeCanceled {
		code = connect.CodeUnavailable
	}
	return connect.NewError(code, fmt.Errorf("no node answers: %s", strings.Join(reasons, "; ")))
}

func nodeError(n *node, err error) *pb.NodeError {
	code := connect.CodeOf(err)
	if code == connect.CodeUnknown || code == connect.CodeCanceled {
		code = connect.CodeUnavailable
	}
	return &pb.NodeError{Node: n.called(), Code: code.String(), Message: text(err)}
}

// text is an error without the code in front of it.
func text(err error) string {
	if ce := new(connect.Error); errors.As(err, &ce) {
		return ce.Message()
	}
	return err.Error()
}

// list joins what stands in a sentence.
func list(parts []string) string { return strings.Join(parts, ", ") }

// matcher is a test for names: one of globs matches, in which '*' and '?' are wildcards; any name without globs.
func matcher(globs []string) (func(string) bool, error) {
	for _, g := range globs {
		if _, err := path.Match(g, ""); err != nil {
			return nil, fmt.Errorf("%q is no pattern: use '*' and '?'", g)
		}
	}
	return func(name string) bool {
		for _, g := range globs {
			if ok, err := path.Match(g, name); ok && err == nil {
				return true
			}
		}
		return len(globs) == 0
	}, nil
}
