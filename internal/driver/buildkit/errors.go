package buildkit

import (
	"context"
	"errors"

	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"longshore/internal/core/build"
)

// stepError tells where in the Dockerfile a build failed, when that is known.
func stepError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Canceled
	}
	out := &build.StepError{Err: err}
	known := false
	var exit *gateway.ExitError
	if errors.As(err, &exit) {
		out.ExitCode, known = int(exit.ExitCode), true
	}
	var vertex *errdefs.VertexError
	if errors.As(err, &vertex) {
		out.Vertex, known = digest.Digest(vertex.GetDigest()), true
	}
	var op *errdefs.OpError
	if errors.As(err, &op) {
		if exec, ok := op.Op.GetOp().(*pb.Op_Exec); ok {
			out.Command = exec.Exec.GetMeta().GetArgs()
		}
	}
	if sources := errdefs.Sources(err); len(sources) > 0 {
		s := sources[len(sources)-1]
		known = true
		out.File, out.Source = s.GetInfo().GetFilename(), s.GetInfo().GetData()
		place(out, s.GetRanges())
	}
	if !known {
		return err
	}
	return out
}

func place(out *build.StepError, ranges []*pb.Range) {
	if len(ranges) == 0 {
		return
	}
	first, last := ranges[0], ranges[len(ranges)-1]
	out.Line, out.Column = int(first.GetStart().GetLine()), int(first.GetStart().GetCharacter())+1
	out.EndLine = max(int(last.GetEnd().GetLine()), out.Line)
}
