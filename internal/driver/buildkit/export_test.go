package buildkit

import "context"

// Shrink carries the policies out now.
func (b *Builder) Shrink(ctx context.Context) { b.shrink(ctx) }
