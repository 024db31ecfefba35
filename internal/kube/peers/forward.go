// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

// credentials is the secret that holds what the relay and its users know each other by: ca.crt and token.
const credentials = "vigie-tls"

// serverName is the name in the relay's certificate.
const serverName = "vigie-relay"

// Relay is a relay in a cluster, reached through the API server as kubectl port-forward does.
type Relay struct {
	cluster   *Cluster
	namespace string
	pod       string
	port      int32
	number    requestNumber

	// TLS is how it is spoken to; nil when it speaks none. Token is what it asks for; empty for none, or when the user may not read it.
	TLS   *tls.Config
	Token string
}

// String is where the relay is: NAMESPACE/POD of a context.
func (r *Relay) String() string {
	return fmt.Sprintf("%s/%s of cluster %s", r.namespace, r.pod, r.cluster.Name)
}

// FindRelay looks for the relay: its service by the labels of the installation, in all namespaces or, where that is not allowed, in
// the context's and in vigie; and a pod behind it that is ready. Errors say what to do.
func (c *Cluster) FindRelay(ctx context.Context) (*Relay, error) {
	service, err := c.findService(ctx)
	if err != nil {
		return nil, err
	}
	var pods corev1.PodList
	options := metav1.ListOptions{LabelSelector: labels.SelectorFromSet(service.Spec.Selector).String()}
	if err := c.core.Get().Namespace(service.Namespace).Resource("pods").VersionedParams(&options, metav1.ParameterCodec).Do(ctx).Into(&pods); err != nil {
		return nil, fmt.Errorf("look for the relay's pod in namespace %s: %w", service.Namespace, err)
	}
	r := &Relay{cluster: c, namespace: service.Namespace}
	secure := false
	for _, p := range pods.Items {
		port, https := servicePort(service, &p)
		if !isReady(&p) || port == 0 {
			continue
		}
		r.pod, r.port, secure = p.Name, port, https
		break
	}
	if r.pod == "" {
		return nil, fmt.Errorf("no pod of the relay in namespace %s is ready: see kubectl -n %s get pods", service.Namespace, service.Namespace)
	}
	return r, r.readCredentials(ctx, secure)
}

func (c *Cluster) findService(ctx context.Context) (*corev1.Service, error) {
	selector := component("relay").String()
	for _, namespace := range []string{"", c.Namespace, product} {
		var list corev1.ServiceList
		options := metav1.ListOptions{LabelSelector: selector}
		err := c.core.Get().Namespace(namespace).Resource("services").VersionedParams(&options, metav1.ParameterCodec).Do(ctx).Into(&list)
		switch {
		case apierrors.IsForbidden(err):
			continue
		case err != nil:
			return nil, fmt.Errorf("look for the relay in cluster %s: %w", c.Name, err)
		case len(list.Items) > 0:
			return &list.Items[0], nil
		}
	}
	return nil, fmt.Errorf("there is no relay in cluster %s, or none that you may see: no service has the labels %s; `vigie install` brings one", c.Name, selector)
}

// servicePort is the port of the pod behind the service's port https, or http, and which of the two it is.
func servicePort(s *corev1.Service, p *corev1.Pod) (port int32, https bool) {
	for _, name := range []string{"https", "http"} {
		for _, sp := range s.Spec.Ports {
			if sp.Name != name {
				continue
			}
			if port = sp.TargetPort.IntVal; sp.TargetPort.StrVal != "" {
				port = containerPort(p, sp.TargetPort.StrVal)
			}
			if port != 0 {
				return port, name == "https"
			}
		}
	}
	return 0, false
}

func isReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil
		}
	}
	return false
}

// readCredentials reads what the relay is known by, as far as the user may.
func (r *Relay) readCredentials(ctx context.Context, secure bool) error {
	if !secure {
		return nil
	}
	r.TLS = &tls.Config{ServerName: serverName, MinVersion: tls.VersionTLS12}
	var secret corev1.Secret
	err := r.cluster.core.Get().Namespace(r.namespace).Resource("secrets").Name(credentials).Do(ctx).Into(&secret)
	switch {
	case apierrors.IsForbidden(err), apierrors.IsNotFound(err):
		return nil // the user may have them from elsewhere
	case err != nil:
		return fmt.Errorf("read the relay's credentials: %w", err)
	}
	r.Token = strings.TrimSpace(string(secret.Data["token"]))
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(secret.Data["ca.crt"]) {
		return fmt.Errorf("secret %s/%s holds no PEM certificate under ca.crt", r.namespace, credentials)
	}
	r.TLS.RootCAs = pool
	return nil
}

// Dial opens a connection to the relay through the API server: over WebSocket, or SPDY where an API server or a proxy before it
// does not know that.
func (r *Relay) Dial(ctx context.Context) (net.Conn, error) {
	dialer, err := r.dialer()
	if err != nil {
		return nil, err
	}
	type dialed struct {
		conn httpstream.Connection
		err  error
	}
	done := make(chan dialed, 1)
	go func() {
		conn, _, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
		done <- dialed{conn, err}
	}()
	select {
	case d := <-done:
		if d.err != nil {
			return nil, fmt.Errorf("forward a port of %s: %w", r, d.err)
		}
		return r.connect(d.conn)
	case <-ctx.Done():
		go func() {
			if d := <-done; d.err == nil {
				_ = d.conn.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

func (r *Relay) dialer() (httpstream.Dialer, error) {
	url := r.cluster.core.Post().Namespace(r.namespace).Resource("pods").Name(r.pod).SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(r.cluster.config)
	if err != nil {
		return nil, fmt.Errorf("prepare to forward a port: %w", err)
	}
	overSPDY := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)
	tunnel, err := portforward.NewSPDYOverWebsocketDialerForStreaming(url, r.cluster.config)
	if err != nil {
		return nil, fmt.Errorf("prepare to forward a port: %w", err)
	}
	return portforward.NewFallbackDialerForStreaming(tunnel, overSPDY, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	}), nil
}

// connect opens the two streams of a forwarded connection: of what went wrong, and of data.
func (r *Relay) connect(conn httpstream.Connection) (net.Conn, error) {
	h := http.Header{}
	h.Set(corev1.PortHeader, strconv.Itoa(int(r.port)))
	h.Set(corev1.PortForwardRequestIDHeader, strconv.Itoa(r.number.next()))
	h.Set(corev1.StreamType, corev1.StreamTypeError)
	failure, err := conn.CreateStream(h)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("forward a port of %s: %w", r, err)
	}
	_ = failure.Close() // nothing is written to it
	h.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := conn.CreateStream(h)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("forward a port of %s: %w", r, err)
	}
	c := &forwarded{relay: r, conn: conn, data: data, said: make(chan struct{})}
	go func() {
		defer close(c.said)
		b, err := io.ReadAll(io.LimitReader(failure, 4096))
		if err == nil && len(b) > 0 {
			c.failure = errors.New(strings.TrimSpace(string(b)))
			_ = conn.Close()
		}
	}()
	return c, nil
}

// requestNumber numbers the connections through one relay.
type requestNumber struct {
	mu sync.Mutex
	n  int
}

func (r *requestNumber) next() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	return r.n - 1
}

// forwarded is a connection through the API server.
type forwarded struct {
	relay   *Relay
	conn    httpstream.Connection
	data    httpstream.Stream
	said    chan struct{} // closed when failure is what it will be
	failure error         // what the node said
	once    sync.Once
}

// Read implements net.Conn.
func (c *forwarded) Read(b []byte) (int, error) {
	n, err := c.data.Read(b)
	if err != nil {
		err = c.explain(err)
	}
	return n, err
}

// Write implements net.Conn.
func (c *forwarded) Write(b []byte) (int, error) {
	n, err := c.data.Write(b)
	if err != nil {
		err = c.explain(err)
	}
	return n, err
}

// explain puts what the node said in the place of the end of the connection.
func (c *forwarded) explain(err error) error {
	select {
	case <-c.said:
		if c.failure != nil {
			return fmt.Errorf("the node of %s can't connect to it: %w", c.relay, c.failure)
		}
	default:
	}
	return err
}

// Close implements net.Conn.
func (c *forwarded) Close() error {
	var err error
	c.once.Do(func() {
		err = c.conn.Close()
		<-c.said
	})
	return err
}

// LocalAddr implements net.Conn.
func (c *forwarded) LocalAddr() net.Addr { return forwardedAddr("this command") }

// RemoteAddr implements net.Conn.
func (c *forwarded) RemoteAddr() net.Addr { return forwardedAddr(c.relay.String()) }

// SetDeadline implements net.Conn. The streams have no deadlines: who reads them has a context.
func (c *forwarded) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn, as SetDeadline.
func (c *forwarded) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn, as SetDeadline.
func (c *forwarded) SetWriteDeadline(time.Time) error { return nil }

type forwardedAddr string

// Network implements net.Addr.
func (forwardedAddr) Network() string { return "port-forward" }

// String implements net.Addr.
func (a forwardedAddr) String() string { return string(a) }
