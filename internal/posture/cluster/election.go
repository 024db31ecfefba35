// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The times of an election, as Kubernetes' own controllers have them.
const (
	leaseDuration = 15 * time.Second // how long others wait for one who says nothing
	renewDeadline = 10 * time.Second // and after how long that one has given up himself
	retryPeriod   = 2 * time.Second
)

// ErrLost is that another may lead now: the Lease could not be renewed in time.
var ErrLost = errors.New("the lease was lost: another may lead now")

// Election is one of several equal processes, of which one leads: whoever holds a Lease of coordination.k8s.io/v1. That a holder is gone is
// judged by this process's own clock alone, from when it saw the Lease change last, so that clocks need not agree. client-go has the same,
// and brings typed clients of all kinds along.
type Election struct {
	Client    *Client
	Namespace string
	Name      string // of the Lease
	Identity  string // of this process, no other may have it
	Log       *slog.Logger

	duration, deadline, retry time.Duration // 0: those above
	seen                      observation
}

// observation is when a Lease was seen to change.
type observation struct {
	spec coordinationv1.LeaseSpec
	at   time.Time
}

func leases() schema.GroupVersionResource { return resource("coordination.k8s.io", "v1", "leases") }

// Lead waits until this process leads, and runs lead, whose context ends when it leads no more. The Lease is given back when lead has ended. The error is
// that of lead, or ErrLost; nil when ctx ended before.
func (e *Election) Lead(ctx context.Context, lead func(context.Context) error) error {
	for ok := false; !ok; {
		var err error
		if ok, err = e.try(ctx); err != nil && ctx.Err() == nil {
			e.Log.Warn("the lease was not asked for", "lease", e.Name, "error", err)
		}
		if !ok && !sleep(ctx, e.pause()) {
			return nil
		}
	}
	e.Log.Info("leads", "lease", e.Namespace+"/"+e.Name, "identity", e.Identity)
	leading, stop := context.WithCancelCause(ctx)
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		e.renew(leading, stop)
	}()
	err := lead(leading)
	lost := errors.Is(context.Cause(leading), ErrLost)
	stop(nil)
	<-renewed
	if lost {
		return errors.Join(ErrLost, err)
	}
	if released := e.release(context.WithoutCancel(ctx)); released != nil {
		e.Log.Warn("the lease was not given back: it ends by itself", "error", released)
	}
	return err
}

// renew renews the Lease until ctx ends, and ends it when that did not succeed in time.
func (e *Election) renew(ctx context.Context, stop context.CancelCauseFunc) {
	last := time.Now()
	for sleep(ctx, e.pause()) {
		attempt, cancel := context.WithTimeout(ctx, time.Until(last.Add(or(e.deadline, renewDeadline))))
		ok, err := e.try(attempt)
		cancel()
		switch {
		case ok:
			last = time.Now()
		case ctx.Err() != nil:
			return
		case err == nil: // another holds it
			stop(ErrLost)
			return
		default:
			e.Log.Warn("the lease was not renewed", "lease", e.Name, "error", err)
		}
		if time.Since(last) >= or(e.deadline, renewDeadline) {
			stop(ErrLost)
			return
		}
	}
}

// pause is between attempts; not the same for all, so that they do not ask at the same moment.
func (e *Election) pause() time.Duration {
	d := or(e.retry, retryPeriod)
	return d + rand.N(d/5+1) //nolint:gosec // nobody guesses it
}

// try takes or renews the Lease; ok false without an error is that another holds it.
func (e *Election) try(ctx context.Context) (ok bool, err error) {
	api := e.Client.Dynamic.Resource(leases()).Namespace(e.Namespace)
	now := metav1.NewMicroTime(time.Now())
	seconds := int32(or(e.duration, leaseDuration).Round(time.Second) / time.Second)
	mine := coordinationv1.LeaseSpec{HolderIdentity: &e.Identity, LeaseDurationSeconds: &seconds, AcquireTime: &now, RenewTime: &now, LeaseTransitions: new(int32)}
	there, err := api.Get(ctx, e.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		u, err := e.object(nil, mine)
		if err != nil {
			return false, err
		}
		return wrote(api.Create(ctx, u, metav1.CreateOptions{}))
	}
	if err != nil {
		return false, err
	}
	var lease coordinationv1.Lease
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(there.Object, &lease); err != nil {
		return false, fmt.Errorf("read lease %s: %w", e.Name, err)
	}
	if e.seen.at.IsZero() || !same(e.seen.spec, lease.Spec) {
		e.seen = observation{lease.Spec, time.Now()}
	}
	holder := deref(lease.Spec.HolderIdentity)
	valid := or(time.Duration(deref(lease.Spec.LeaseDurationSeconds))*time.Second, leaseDuration)
	switch {
	case holder == e.Identity:
		mine.AcquireTime, mine.LeaseTransitions = lease.Spec.AcquireTime, lease.Spec.LeaseTransitions
	case holder != "" && time.Since(e.seen.at) < valid:
		return false, nil
	default:
		*mine.LeaseTransitions = deref(lease.Spec.LeaseTransitions) + 1
	}
	// It has the version that was read: of two who take it at once one is refused.
	u, err := e.object(there, mine)
	if err != nil {
		return false, err
	}
	return wrote(api.Update(ctx, u, metav1.UpdateOptions{}))
}

// wrote is what an attempt to write the Lease means: a conflict is that another was faster.
func wrote(_ *unstructured.Unstructured, err error) (bool, error) {
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return false, nil
	}
	return err == nil, err
}

// object is the Lease to write: what is there with another spec, or a new one.
func (e *Election) object(there *unstructured.Unstructured, spec coordinationv1.LeaseSpec) (*unstructured.Unstructured, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&spec)
	if err != nil {
		return nil, fmt.Errorf("write lease %s: %w", e.Name, err)
	}
	var u *unstructured.Unstructured
	if there != nil {
		u = there.DeepCopy()
	} else {
		u = &unstructured.Unstructured{Object: map[string]any{}}
		u.SetAPIVersion(leases().GroupVersion().String())
		u.SetKind("Lease")
		u.SetNamespace(e.Namespace)
		u.SetName(e.Name)
	}
	u.Object["spec"] = fields
	return u, nil
}

// release lets another take the Lease at once.
func (e *Election) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	api := e.Client.Dynamic.Resource(leases()).Namespace(e.Namespace)
	there, err := api.Get(ctx, e.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if holder, _, _ := unstructured.NestedString(there.Object, "spec", "holderIdentity"); holder != e.Identity {
		return nil
	}
	now, second := metav1.NewMicroTime(time.Now()), int32(1)
	transitions, _, _ := unstructured.NestedInt64(there.Object, "spec", "leaseTransitions")
	count := int32(transitions) //nolint:gosec // it was one
	free, err := e.object(there, coordinationv1.LeaseSpec{LeaseDurationSeconds: &second, RenewTime: &now, LeaseTransitions: &count})
	if err != nil {
		return err
	}
	_, err = api.Update(ctx, free, metav1.UpdateOptions{})
	return err
}

func same(a, b coordinationv1.LeaseSpec) bool {
	return deref(a.HolderIdentity) == deref(b.HolderIdentity) && a.RenewTime.Equal(b.RenewTime) && deref(a.LeaseTransitions) == deref(b.LeaseTransitions)
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func or(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// sleep waits; false when ctx ended meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
