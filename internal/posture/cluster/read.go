// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/vigie-io/vigie/internal/posture/control"
)

// Object is one of the cluster.
type Object struct {
	Fields map[string]any
	Path   string // of the API, as in /apis/apps/v1/namespaces/shop/deployments/web
	// Theirs: made by a controller from an object that is read too, or one of Kubernetes' own roles. What is wrong with it is
	// wrong there, so that it is known and not judged.
	Theirs bool
}

// Options narrow and slow a reading.
type Options struct {
	Namespaces []string // only these; empty: all
	Except     []string // not these
	All        bool     // judge also what controllers made
	Page       int64    // objects a request; 0: 100
}

// Summary is what was read, and what was not.
type Summary struct {
	Objects int
	Theirs  int
	Missing []Gap // what was wanted and could not be read
}

// Gap is a resource that was not read, and why. NotServed is none: the cluster does not have it.
type Gap struct {
	Resource schema.GroupResource
	Err      error
}

// Read lists what is wanted, page by page, and gives every object to take, in whose error it ends. After each page it
// rests as long as the page took, so that at most half of one of the API server's threads works for it.
func (c *Client) Read(ctx context.Context, w Wanted, o Options, take func(Object) error) (*Summary, error) {
	served, broken, err := c.served()
	if err != nil {
		return nil, err
	}
	s := &Summary{}
	for _, gr := range w.Resources() {
		i := slices.IndexFunc(w[gr], func(v string) bool { return served[gr.WithVersion(v)].Kind != "" })
		if i < 0 {
			if broken != nil && gr.Group != "" {
				s.Missing = append(s.Missing, Gap{gr, broken})
			}
			continue // it has none
		}
		err := c.list(ctx, served[gr.WithVersion(w[gr][i])], o, s, take)
		var stop stopError
		switch {
		case errors.As(err, &stop):
			return s, stop.err
		case ctx.Err() != nil:
			return s, fmt.Errorf("read the cluster: %w", ctx.Err())
		case err != nil:
			s.Missing = append(s.Missing, Gap{gr, err})
		}
	}
	return s, nil
}

// stopError is one of take.
type stopError struct{ err error }

func (e stopError) Error() string { return e.err.Error() }

// list reads one resource. With one namespace only that is asked for.
func (c *Client) list(ctx context.Context, r Served, o Options, s *Summary, take func(Object) error) error {
	spaces := []string{""}
	if r.Namespaced && len(o.Namespaces) > 0 {
		spaces = o.Namespaces
	}
	for _, ns := range spaces {
		if err := c.pages(ctx, r, ns, o, s, take); err != nil {
			return err
		}
	}
	return nil
}

// defaultPage is small: while an API server writes a page it has less time for others.
const defaultPage = 100

func (c *Client) pages(ctx context.Context, r Served, namespace string, o Options, s *Summary, take func(Object) error) error {
	options := metav1.ListOptions{Limit: o.Page}
	if options.Limit == 0 {
		options.Limit = defaultPage
	}
	again := 0
	for {
		began := time.Now()
		page, err := c.Dynamic.Resource(r.Resource).Namespace(namespace).List(ctx, options)
		if apierrors.IsResourceExpired(err) && options.Continue != "" && again < 3 {
			// The snapshot is gone; the server gives a token to go on with what is there now.
			if token := inconsistent(err); token != "" {
				options.Continue = token
				again++
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("list %s: %w", r.Resource.GroupResource(), err)
		}
		for i := range page.Items {
			item := &page.Items[i]
			if slices.Contains(o.Except, item.GetNamespace()) || r.Resource.Resource == "namespaces" && slices.Contains(o.Except, item.GetName()) {
				continue
			}
			item.SetAPIVersion(r.Resource.GroupVersion().String())
			item.SetKind(r.Kind)
			object := Object{Fields: slim(item), Path: Path(r.Resource, item.GetNamespace(), item.GetName()), Theirs: Theirs(item) && !o.All}
			s.Objects++
			if object.Theirs {
				s.Theirs++
			}
			if err := take(object); err != nil {
				return stopError{err}
			}
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return nil
		}
		if err := pause(ctx, time.Since(began)); err != nil {
			return err
		}
	}
}

func inconsistent(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return status.Status().Continue
	}
	return ""
}

// pause waits, for a second at most.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(min(d, time.Second))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// slim takes away what no control looks at and what is large.
func slim(u *unstructured.Unstructured) map[string]any {
	u.SetManagedFields(nil)
	if a := u.GetAnnotations(); a["kubectl.kubernetes.io/last-applied-configuration"] != "" {
		delete(a, "kubectl.kubernetes.io/last-applied-configuration")
		u.SetAnnotations(a)
	}
	return u.Object
}

// Theirs reports whether a controller made an object from another that is read too, or Kubernetes keeps it itself.
func Theirs(u *unstructured.Unstructured) bool {
	if u.GetLabels()["kubernetes.io/bootstrapping"] == "rbac-defaults" {
		return true
	}
	owner := metav1.GetControllerOf(u)
	return owner != nil && slices.Contains(control.PodKinds(), owner.Kind) && slices.Contains(control.PodKinds(), u.GetKind())
}

// Path is where the API has an object.
func Path(r schema.GroupVersionResource, namespace, name string) string {
	path := "/apis/" + r.Group + "/" + r.Version
	if r.Group == "" {
		path = "/api/" + r.Version
	}
	if namespace != "" {
		path += "/namespaces/" + namespace
	}
	return path + "/" + r.Resource + "/" + name
}

func isNotFound(err error) bool { return apierrors.IsNotFound(err) }
