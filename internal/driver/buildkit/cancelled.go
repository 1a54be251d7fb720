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

// ResolveOp gives steps a cache that commits nothing once the build is cancelled. BuildKit v0.33 would commit what a
// cancelled step has written and lose count of it: its snapshot and lease would stay in use until the engine ends.
func (w *localWorker) ResolveOp(v solver.Vertex, s frontend.FrontendLLBBridge, sm *session.Manager, proxy worker.ProxyOpt) (solver.Op, error) {
	op, ok := v.Sys().(*pb.Op)
	if !ok || proxy.Network {
		return w.Worker.ResolveOp(v, s, sm, proxy)
	}
	exec, ok := op.Op.(*pb.Op_Exec)
	if !ok {
		return w.Worker.ResolveOp(v, s, sm, proxy)
	}
	var limits *pb.LinuxResources
	if m, ok := v.Options().Metadata.(*linuxresources.Metadata); ok && m != nil {
		limits = m.LinuxResources
	}
	return ops.NewExecOp(v, exec, op.Platform, stepCache{w.CacheMgr}, w.ParallelismSem, sm, w.WorkerOpt.Executor, w.Worker, limits, false)
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
