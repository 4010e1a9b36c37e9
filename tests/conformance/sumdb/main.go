// Checks a log that guantong wrote with the code of the Go checksum database, which knows nothing of guantong.
//
// usage: sumdbcheck DIR, where DIR holds vkey, old.note, new.note, consistency (one base64 hash a line), proofs/<n>.tlog-proof with
// its proofs/<n>.leaf beside it, and tile/... as C2SP tlog-tiles lays them out, entry bundles among them.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sort"
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

// entries are the records of an entry bundle: a big-endian uint16 before each (C2SP tlog-tiles).
func entries(data []byte) (found [][]byte) {
	for len(data) > 0 {
		if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
			check(fmt.Errorf("the bundle of entries is cut off"))
		}
		end := 2 + int(binary.BigEndian.Uint16(data))
		found = append(found, data[2:end])
		data = data[end:]
	}
	return found
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
	open := func(text string) (int64, tlog.Hash) {
		opened, err := note.Open([]byte(text), note.VerifierList(verifier))
		check(err)
		lines := strings.Split(opened.Text, "\n")
		if lines[0] != verifier.Name() {
			check(fmt.Errorf("origin %q", lines[0]))
		}
		size, err := strconv.ParseInt(lines[1], 10, 64)
		check(err)
		return size, hash(lines[2])
	}
	oldSize, oldRoot := open(read("old.note"))
	size, root := open(read("new.note"))
	var consistency tlog.TreeProof
	for _, line := range strings.Fields(read("consistency")) {
		consistency = append(consistency, hash(line))
	}
	check(tlog.CheckTree(consistency, size, root, oldSize, oldRoot))
	names, err := filepath.Glob(filepath.Join(dir, "proofs", "*.tlog-proof"))
	check(err)
	sort.Strings(names)
	reader := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, tiles{dir})
	for _, name := range names {
		data, err := os.ReadFile(name)
		check(err)
		head, signed, _ := strings.Cut(string(data), "\n\n")
		lines := strings.Split(head, "\n")
		if lines[0] != "c2sp.org/tlog-proof@v1" {
			check(fmt.Errorf("header %q", lines[0]))
		}
		lines = lines[1:]
		if strings.HasPrefix(lines[0], "extra ") {
			lines = lines[1:] // nothing covers it, nobody may trust it
		}
		index, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "index "), 10, 64)
		check(err)
		var path tlog.RecordProof
		for _, line := range lines[1:] {
			path = append(path, hash(line))
		}
		proofSize, proofRoot := open(signed)
		leaf, err := os.ReadFile(strings.TrimSuffix(name, ".tlog-proof") + ".leaf")
		check(err)
		check(tlog.CheckRecord(path, proofSize, proofRoot, index, tlog.RecordHash(leaf)))
		again, err := tlog.ProveRecord(size, index, reader)
		check(err)
		check(tlog.CheckRecord(again, size, root, index, tlog.RecordHash(leaf)))
		if fmt.Sprint(again) != fmt.Sprint(path) {
			check(fmt.Errorf("the tiles lead to another path for %d", index))
		}
	}
	again, err := tlog.ProveTree(size, oldSize, reader)
	check(err)
	if fmt.Sprint(again) != fmt.Sprint(consistency) {
		check(fmt.Errorf("the tiles lead to another consistency proof"))
	}
	count := int64(0)
	for count < size {
		tile := tlog.Tile{H: 8, L: -1, N: count / 256, W: int(min(256, size-count))}
		for _, entry := range entries([]byte(read(strings.Replace(tile.Path(), "tile/8/data", "tile/entries", 1)))) {
			known, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, count)})
			check(err)
			if known[0] != tlog.RecordHash(entry) {
				check(fmt.Errorf("entry %d of the bundle is not in the tree", count))
			}
			count++
		}
	}
	fmt.Printf("ok %d %d\n", size, len(names))
}
