// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// HandleReflection serves gRPC's reflection, by which tools such as grpcurl learn what services there are.
func HandleReflection(mux *http.ServeMux, options []connect.HandlerOption, services ...string) {
	answer := func(_ context.Context, stream *connect.BidiStream[reflection.ServerReflectionRequest, reflection.ServerReflectionResponse]) error {
		sent := make(map[string]bool)
		for {
			q, err := stream.Receive()
			switch {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			}
			if err := stream.Send(reflect(q, services, sent)); err != nil {
				return fmt.Errorf("send descriptions: %w", err)
			}
		}
	}
	for _, procedure := range []string{reflection.ServerReflection_ServerReflectionInfo_FullMethodName,
		"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"} { // the same messages, before they were final
		mux.Handle(procedure, connect.NewBidiStreamHandler(procedure, answer, options...))
	}
}

// reflect answers one question. sent are the files that the client has already.
func reflect(q *reflection.ServerReflectionRequest, services []string, sent map[string]bool) *reflection.ServerReflectionResponse {
	m := &reflection.ServerReflectionResponse{ValidHost: q.GetHost(), OriginalRequest: q}
	var file protoreflect.FileDescriptor
	var err error
	switch ask := q.GetMessageRequest().(type) {
	case *reflection.ServerReflectionRequest_ListServices:
		list := &reflection.ListServiceResponse{}
		for _, name := range services {
			list.Service = append(list.Service, &reflection.ServiceResponse{Name: name})
		}
		m.MessageResponse = &reflection.ServerReflectionResponse_ListServicesResponse{ListServicesResponse: list}
		return m
	case *reflection.ServerReflectionRequest_FileByFilename:
		file, err = protoregistry.GlobalFiles.FindFileByPath(ask.FileByFilename)
	case *reflection.ServerReflectionRequest_FileContainingSymbol:
		var found protoreflect.Descriptor
		if found, err = protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(ask.FileContainingSymbol)); err == nil {
			file = found.ParentFile()
		}
	default:
		err = errors.New("this question is not known here: ask for services, files and symbols")
	}
	files := &reflection.FileDescriptorResponse{}
	if err == nil {
		files.FileDescriptorProto, err = describe(file, sent)
	}
	if err != nil {
		m.MessageResponse = &reflection.ServerReflectionResponse_ErrorResponse{ErrorResponse: &reflection.ErrorResponse{
			ErrorCode: int32(codes.NotFound), ErrorMessage: err.Error()}}
		return m
	}
	m.MessageResponse = &reflection.ServerReflectionResponse_FileDescriptorResponse{FileDescriptorResponse: files}
	return m
}

// describe is a file and what it imports, but for what was sent.
func describe(file protoreflect.FileDescriptor, sent map[string]bool) ([][]byte, error) {
	var out [][]byte
	for queue := []protoreflect.FileDescriptor{file}; len(queue) > 0; queue = queue[1:] {
		next := queue[0]
		if next.IsPlaceholder() || sent[next.Path()] && next != file {
			continue
		}
		sent[next.Path()] = true
		b, err := proto.Marshal(protodesc.ToFileDescriptorProto(next))
		if err != nil {
			return nil, fmt.Errorf("describe %s: %w", next.Path(), err)
		}
		out = append(out, b)
		for i := range next.Imports().Len() {
			queue = append(queue, next.Imports().Get(i).FileDescriptor)
		}
	}
	return out, nil
}
