// SPDX-License-Identifier: Apache-2.0

// Command protogen generates the code of the API, without protoc: it compiles vigie/v1/*.proto and hands the result
// to generators. In: the current directory, which is api. Out: *.pb.go beside the definitions, by the generators that
// go.mod names as tools; or, with -typescript DIR, what the web page's generator makes, in DIR.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/vigie-io/vigie/api/internal/definitions"
)

func main() {
	typescript := flag.String("typescript", "", "generate TypeScript into this directory, with ../ui/node_modules/.bin/protoc-gen-es")
	flag.Parse()
	if err := run(context.Background(), ".", *typescript); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

// run generates code for all definitions below root: Go, or TypeScript where a directory for it is given.
func run(ctx context.Context, root, typescript string) error {
	files, err := definitions.Compile(ctx, root)
	if err != nil {
		return err
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Path())
	}
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: names}
	seen := make(map[string]bool)
	for _, f := range files {
		request.ProtoFile = appendWithImports(request.ProtoFile, f, seen)
	}
	if typescript != "" {
		request.Parameter = proto.String("target=ts")
		return generate(ctx, typescript, request, filepath.Join(root, "../ui/node_modules/.bin/protoc-gen-es"))
	}
	request.Parameter = proto.String("paths=source_relative")
	for _, tool := range []string{"protoc-gen-go", "protoc-gen-connect-go"} {
		if err := generate(ctx, root, request, "go", "tool", tool); err != nil {
			return err
		}
	}
	return nil
}

// appendWithImports appends f after everything that it imports, each once, as generators require.
func appendWithImports(list []*descriptorpb.FileDescriptorProto, f protoreflect.FileDescriptor,
	seen map[string]bool) []*descriptorpb.FileDescriptorProto {
	if seen[f.Path()] {
		return list
	}
	seen[f.Path()] = true
	for i := range f.Imports().Len() {
		list = appendWithImports(list, f.Imports().Get(i).FileDescriptor, seen)
	}
	if r, ok := f.(interface {
		FileDescriptorProto() *descriptorpb.FileDescriptorProto
	}); ok {
		return append(list, r.FileDescriptorProto())
	}
	return append(list, protodesc.ToFileDescriptorProto(f))
}

// generate runs one generator and writes what it answers.
func generate(ctx context.Context, root string, request *pluginpb.CodeGeneratorRequest, command ...string) error {
	in, err := proto.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("run %s: %w", strings.Join(command, " "), err)
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(out, &response); err != nil {
		return fmt.Errorf("decode the answer of %s: %w", strings.Join(command, " "), err)
	}
	if response.Error != nil {
		return fmt.Errorf("generate: %s", response.GetError())
	}
	for _, f := range response.File {
		path := filepath.Join(root, filepath.FromSlash(f.GetName()))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
		if err := os.WriteFile(path, []byte(f.GetContent()), 0o644); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	return nil
}
