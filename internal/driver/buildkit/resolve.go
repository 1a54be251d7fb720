package buildkit

import (
	"context"

	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/llbsolver/linuxresources"
	"github.com/moby/buildkit/solver/llbsolver/ops"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/worker"
)

// ResolveOp is BuildKit's but for steps and for the files of classic contexts.
func (w *localWorker) ResolveOp(v solver.Vertex, s frontend.FrontendLLBBridge, sm *session.Manager, proxy worker.ProxyOpt) (solver.Op, error) {
	op, ok := v.Sys().(*pb.Op)
	if !ok || proxy.Network {
		return w.Worker.ResolveOp(v, s, sm, proxy)
	}
	switch typ := op.Op.(type) {
	case *pb.Op_Exec:
		return w.step(v, typ, op.Platform, sm)
	case *pb.Op_Source:
		if _, ok := w.unkeyed.Load(typ.Source.Attrs[pb.AttrLocalSessionID]); ok {
			return w.contextFiles(v, typ, op.Platform, sm)
		}
	}
	return w.Worker.ResolveOp(v, s, sm, proxy)
}

// contextFiles reads all files of a context anew. A tar archive tells times in seconds, often all the same: nothing in a
// file's metadata says whether it is the one that the last build had.
func (w *localWorker) contextFiles(v solver.Vertex, op *pb.Op_Source, p *pb.Platform, sm *session.Manager) (solver.Op, error) {
	own := op.Source.CloneVT()
	own.Attrs[pb.AttrLocalDiffer] = pb.AttrLocalDifferNone
	return ops.NewSourceOp(v, &pb.Op_Source{Source: own}, p, w.SourceManager, w.ParallelismSem, sm, w.Worker)
}

// step gives a step a cache that commits nothing once the build is cancelled. BuildKit v0.33 would commit what a cancelled
// step has written and lose count of it: its snapshot and lease would stay in use until the engine ends.
func (w *localWorker) step(v solver.Vertex, exec *pb.Op_Exec, p *pb.Platform, sm *session.Manager) (solver.Op, error) {
	var limits *pb.LinuxResources
	if m, ok := v.Options().Metadata.(*linuxresources.Metadata); ok && m != nil {
		limits = m.LinuxResources
	}
	return ops.NewExecOp(v, exec, p, stepCache{w.CacheMgr}, w.ParallelismSem, sm, w.WorkerOpt.Executor, w.Worker, limits, false)
}

// stepCache is the cache as steps see it.
type stepCache struct{ cache.Manager }

// New implements BuildKit's cache.Accessor.
func (c stepCache) New(ctx context.Context, parent cache.ImmutableRef, g session.Group, opts ...cache.RefOption) (cache.MutableRef, error) {
	ref, err := c.Manager.New(ctx, parent, g, opts...)
	if err != nil {
		return nil, err
	}
	return stepRef{ref}, nil
}

// stepRef is what a step writes to.
type stepRef struct{ cache.MutableRef }

// Commit implements BuildKit's cache.MutableRef.
func (r stepRef) Commit(ctx context.Context) (cache.ImmutableRef, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return r.MutableRef.Commit(ctx)
}
