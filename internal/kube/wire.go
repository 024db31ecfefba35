// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// A pod comes as some kilobytes, of which some hundred are read. So objects are decoded without the rest, and what is kept while
// a list is read is a brief of each.

// wire is an object as it comes from the API server. Unmarshal decodes what is read of it, and may use the bytes it is given.
type wire interface {
	runtime.Object
	metav1.Object
	Unmarshal(message []byte) error
}

type (
	wirePod       struct{ corev1.Pod }
	wireNode      struct{ corev1.Node }
	wireNamespace struct{ corev1.Namespace }
	wireService   struct{ corev1.Service }
	wireSlice     struct{ discoveryv1.EndpointSlice }
)

// wireTypes adds what is followed to a scheme.
func wireTypes(s *runtime.Scheme) {
	for kind, o := range map[string]runtime.Object{"Pod": &wirePod{}, "Node": &wireNode{}, "Namespace": &wireNamespace{}, "Service": &wireService{}} {
		s.AddKnownTypeWithName(corev1.SchemeGroupVersion.WithKind(kind), o)
	}
	s.AddKnownTypeWithName(discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), &wireSlice{})
	metav1.AddToGroupVersion(s, corev1.SchemeGroupVersion)
	metav1.AddToGroupVersion(s, discoveryv1.SchemeGroupVersion)
}

// fields are those of a message that are read, by their numbers (generated.proto of k8s.io/api), and what is read of each; nil: all.
type fields map[protowire.Number]fields

var (
	// Of metadata: name, namespace, uid, resourceVersion, creationTimestamp, labels, annotations (a static pod's uid, and that a list
	// has ended), ownerReferences.
	metadataFields = fields{1: nil, 3: nil, 5: nil, 6: nil, 8: nil, 11: nil, 12: nil, 13: nil}
	// Of a container: name, image, ports, restartPolicy. Of its status: name, containerID.
	containerFields = fields{1: nil, 2: nil, 6: nil, 24: nil}
	statusFields    = fields{1: nil, 8: nil}

	podFields = fields{1: metadataFields,
		2: {2: containerFields, 8: nil, 10: nil, 11: nil, 20: containerFields}, // containers, serviceAccountName, nodeName, hostNetwork, initContainers
		3: {1: nil, 6: nil, 8: statusFields, 10: statusFields, 12: nil}}        // phase, podIP, containerStatuses, initContainerStatuses, podIPs
	nodeFields      = fields{1: metadataFields, 2: {1: nil, 7: nil}, 3: {5: nil}} // podCIDR, podCIDRs; addresses
	namespaceFields = fields{1: metadataFields}
	serviceFields   = fields{1: metadataFields, 2: {1: nil, 3: nil, 5: nil, 18: nil}, 3: {1: nil}} // ports, clusterIP, externalIPs, clusterIPs; loadBalancer
	sliceFields     = fields{1: metadataFields, 2: {1: nil, 2: nil}, 3: nil}                       // endpoints' addresses and conditions; ports
)

// Unmarshal implements wire.
func (o *wirePod) Unmarshal(b []byte) error { return unmarshal(b, podFields, o.Pod.Unmarshal) }

// Unmarshal implements wire.
func (o *wireNode) Unmarshal(b []byte) error { return unmarshal(b, nodeFields, o.Node.Unmarshal) }

// Unmarshal implements wire.
func (o *wireNamespace) Unmarshal(b []byte) error {
	return unmarshal(b, namespaceFields, o.Namespace.Unmarshal)
}

// Unmarshal implements wire.
func (o *wireService) Unmarshal(b []byte) error {
	return unmarshal(b, serviceFields, o.Service.Unmarshal)
}

// Unmarshal implements wire.
func (o *wireSlice) Unmarshal(b []byte) error {
	return unmarshal(b, sliceFields, o.EndpointSlice.Unmarshal)
}

func unmarshal(b []byte, read fields, decode func([]byte) error) error {
	b, err := sieve(b, read)
	if err != nil {
		return err
	}
	return decode(b)
}

// sieve is a protobuf message without the fields that are not read. It is made within the bytes of the message.
func sieve(message []byte, read fields) ([]byte, error) {
	out := message[:0]
	for len(message) > 0 {
		number, kind, head := protowire.ConsumeTag(message)
		if head < 0 {
			return nil, protowire.ParseError(head)
		}
		size := protowire.ConsumeFieldValue(number, kind, message[head:])
		if size < 0 {
			return nil, protowire.ParseError(size)
		}
		field := message[:head+size]
		message = message[head+size:]
		switch of, wanted := read[number]; {
		case !wanted:
		case of == nil || kind != protowire.BytesType:
			out = append(out, field...)
		default:
			content, _ := protowire.ConsumeBytes(field[head:])
			content, err := sieve(content, of)
			if err != nil {
				return nil, err
			}
			// Nowhere longer than it was: what is written never reaches what is still to be read.
			out = protowire.AppendBytes(protowire.AppendTag(out, number, kind), content)
		}
	}
	return out, nil
}

// brief is what is read of an object. It is an item of a list for client-go.
type brief struct {
	namespace, name string
	told            any // by the resource's read
}

// GetObjectMeta implements metav1.ObjectMetaAccessor.
func (b *brief) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: b.namespace, Name: b.name}
}

// GetObjectKind implements runtime.Object.
func (*brief) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject implements runtime.Object. A brief is never modified.
func (b *brief) DeepCopyObject() runtime.Object { return b }

// readList hands over the items of a list one by one as they arrive; their bytes are valid only until item returns. The list itself is
// tens of megabytes in a large cluster.
func readList(in io.Reader, item func([]byte) error) (about metav1.ListMeta, err error) {
	// k8s\0, then a runtime.Unknown, whose field 2 is the list.
	whole := bufio.NewReaderSize(in, 32<<10)
	var magic [4]byte
	if _, err := io.ReadFull(whole, magic[:]); err != nil {
		return about, fmt.Errorf("read a list: %w", err)
	}
	if string(magic[:]) != "k8s\x00" {
		return about, fmt.Errorf("read a list: it begins with %q and is no protobuf", magic[:])
	}
	found := false
	err = eachField(whole, func(number protowire.Number, content io.Reader) error {
		if number != 2 {
			return nil
		}
		found = true
		var buffer bytes.Buffer
		return eachField(bufio.NewReaderSize(content, 32<<10), func(number protowire.Number, content io.Reader) error {
			buffer.Reset()
			if number > 2 {
				return nil
			}
			if _, err := buffer.ReadFrom(content); err != nil {
				return err
			}
			if number == 1 {
				return about.Unmarshal(buffer.Bytes())
			}
			return item(buffer.Bytes())
		})
	})
	if err == nil && !found {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return about, fmt.Errorf("read a list: %w", err)
	}
	return about, nil
}

// eachField hands over the fields of a message, all of which have a length, until its end.
func eachField(message *bufio.Reader, do func(protowire.Number, io.Reader) error) error {
	for {
		tag, err := binary.ReadUvarint(message)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		number, kind := protowire.DecodeTag(tag)
		if kind != protowire.BytesType {
			return fmt.Errorf("field %d is of the kind %d", number, kind)
		}
		size, err := binary.ReadUvarint(message)
		if err != nil {
			return noEnd(err)
		}
		content := &io.LimitedReader{R: message, N: int64(size)}
		if err := do(number, content); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, content); err != nil {
			return err
		}
		if content.N > 0 {
			return io.ErrUnexpectedEOF
		}
	}
}

func noEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
