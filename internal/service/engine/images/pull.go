package images

type flights struct{ running map[string]*flight }
type flight struct{}

// Searcher answers searches.
type Searcher interface{}
