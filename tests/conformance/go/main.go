// Checks a log that guantong wrote with the code of the Go checksum database, which knows nothing of guantong.
//
// usage: sumdbcheck DIR, where DIR holds vkey, old.note, new.note, consistency (one base64 hash a line), proofs (a line each:
// index, leaf in base64, hashes in base64) and tile/... as C2SP tlog-tiles lays them out.
package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func hash(text string) (h tlog.Hash) {
	data, err := base64.StdEncoding.DecodeString(text)
	check(err)
	if len(data) != tlog.HashSize {
		check(fmt.Errorf("a hash has %d bytes", len(data)))
	}
	copy(h[:], data)
	return h
}

type tiles struct{ dir string }

func (tiles) Height() int                         { return 8 }
func (tiles) SaveTiles(_ []tlog.Tile, _ [][]byte) {}
func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range wanted {
		data, err := os.ReadFile(filepath.Join(t.dir, "tile", strings.TrimPrefix(tile.Path(), "tile/8/")))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

func main() {
	dir := os.Args[1]
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(dir, name))
		check(err)
		return string(data)
	}
	verifier, err := note.NewVerifier(read("vkey"))
	check(err)
	open := func(name string) (int64, tlog.Hash) {
		opened, err := note.Open([]byte(read(name)), note.VerifierList(verifier))
		check(err)
		lines := strings.Split(opened.Text, "\n")
		if lines[0] != verifier.Name() {
			check(fmt.Errorf("origin %q", lines[0]))
		}
		size, err := strconv.ParseInt(lines[1], 10, 64)
		check(err)
		return size, hash(lines[2])
	}
	oldSize, oldRoot := open("old.note")
	size, root := open("new.note")
	var consistency tlog.TreeProof
	for _, line := range strings.Fields(read("consistency")) {
		consistency = append(consistency, hash(line))
	}
	check(tlog.CheckTree(consistency, size, root, oldSize, oldRoot))
	tree := tlog.Tree{N: size, Hash: root}
	reader := tlog.TileHashReader(tree, tiles{dir})
	ours, err := tlog.ProveTree(size, oldSize, reader)
	check(err)
	if fmt.Sprint(ours) != fmt.Sprint(consistency) {
		check(fmt.Errorf("the tiles lead to another consistency proof"))
	}
	count := 0
	for _, line := range strings.Split(strings.TrimSpace(read("proofs")), "\n") {
		fields := strings.Fields(line)
		index, err := strconv.ParseInt(fields[0], 10, 64)
		check(err)
		leaf, err := base64.StdEncoding.DecodeString(fields[1])
		check(err)
		var path tlog.RecordProof
		for _, field := range fields[2:] {
			path = append(path, hash(field))
		}
		check(tlog.CheckRecord(path, size, root, index, tlog.RecordHash(leaf)))
		again, err := tlog.ProveRecord(size, index, reader)
		check(err)
		if len(again) != len(path) {
			check(fmt.Errorf("the tiles lead to another path for %d", index))
		}
		for i := range again {
			if !bytes.Equal(again[i][:], path[i][:]) {
				check(fmt.Errorf("the tiles lead to another path for %d", index))
			}
		}
		count++
	}
	fmt.Printf("ok %d %d\n", size, count)
}
