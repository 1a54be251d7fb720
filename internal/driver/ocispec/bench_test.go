package ocispec

import "testing"

func BenchmarkGenerate(b *testing.B) {
	root := accounts(b)
	for b.Loop() {
		if _, err := Generate(plain(root)); err != nil {
			b.Fatal(err)
		}
	}
}
