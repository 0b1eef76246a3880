// pion (Go) as the other end. See ../README.md. `scripts/setup interop` builds it against Debian's packages.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/pion/webrtc/v3"
)

var version = "unknown" // set by scripts/setup

type fields map[string]interface{}

type command struct {
	Do, Label, Type, Sdp, Candidate, Mid, Kind, Protocol string
	Size, Seed                                           int
	On                                                   bool
	Ordered                                              *bool
	MaxRetransmits, MaxPacketLifeTime, ID                *uint16
}

var (
	out      sync.Mutex
	channels sync.Map
	echoing  sync.Map
	pc       *webrtc.PeerConnection
)

func emit(event string, f fields) {
	if f == nil {
		f = fields{}
	}
	f["event"] = event
	line, _ := json.Marshal(f)
	out.Lock()
	defer out.Unlock()
	os.Stdout.Write(append(line, '\n'))
}

func fail(text string) {
	emit("error", fields{"text": text})
	os.Exit(1)
}

func check(what string, err error) {
	if err != nil {
		fail(what + ": " + err.Error())
	}
}

// make follows the rule of README.md.
func content(kind string, size, seed int) []byte {
	bytes := make([]byte, 0, size)
	if kind == "text" && size >= 6 {
		bytes = append(bytes, "é𝄞"...)
	}
	for i := 0; len(bytes) < size; i++ {
		b := byte(i*31 + (i>>8)*7 + seed)
		if kind == "text" {
			b = 97 + b%26
		}
		bytes = append(bytes, b)
	}
	return bytes
}

func send(c *webrtc.DataChannel, isText bool, data []byte) {
	var err error
	if isText {
		err = c.SendText(string(data))
	} else {
		err = c.Send(data)
	}
	check("send", err)
}

func attach(c *webrtc.DataChannel) {
	channels.Store(c.Label(), c)
	c.OnOpen(func() {
		emit("open", fields{
			"label": c.Label(), "limit": 65535, "ordered": c.Ordered(), "maxRetransmits": c.MaxRetransmits(), "maxPacketLifeTime": c.MaxPacketLifeTime(),
			"protocol": c.Protocol(), "id": c.ID()})
	})
	c.OnClose(func() { emit("closed", fields{"label": c.Label()}) })
	c.OnMessage(func(m webrtc.DataChannelMessage) {
		kind := "binary"
		if m.IsString {
			kind = "text"
		}
		emit("message", fields{"label": c.Label(), "kind": kind, "size": len(m.Data), "crc": crc32.ChecksumIEEE(m.Data)})
		if on, _ := echoing.Load(c.Label()); on == true {
			send(c, m.IsString, m.Data)
		}
	})
}

func channel(label string) *webrtc.DataChannel {
	c, ok := channels.Load(label)
	if !ok {
		fail("no channel " + label)
	}
	return c.(*webrtc.DataChannel)
}

func describe(d webrtc.SessionDescription, err error) {
	check("description", err)
	emit("description", fields{"type": d.Type.String(), "sdp": d.SDP})
	check("SetLocalDescription", pc.SetLocalDescription(d))
}

func run(c command) {
	switch c.Do {
	case "channel":
		negotiated := c.ID != nil
		init := webrtc.DataChannelInit{
			Ordered: c.Ordered, MaxRetransmits: c.MaxRetransmits, MaxPacketLifeTime: c.MaxPacketLifeTime, Protocol: &c.Protocol, Negotiated: &negotiated, ID: c.ID}
		made, err := pc.CreateDataChannel(c.Label, &init)
		check("CreateDataChannel", err)
		attach(made)
	case "offer":
		describe(pc.CreateOffer(nil))
	case "description":
		check("SetRemoteDescription", pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.NewSDPType(c.Type), SDP: c.Sdp}))
		if c.Type == "offer" {
			describe(pc.CreateAnswer(nil))
		}
	case "candidate":
		check("AddICECandidate", pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: c.Candidate, SDPMid: &c.Mid}))
	case "send":
		send(channel(c.Label), c.Kind == "text", content(c.Kind, c.Size, c.Seed))
	case "echo":
		echoing.Store(c.Label, c.On)
	case "close":
		check("close", channel(c.Label).Close())
	case "quit":
		pc.Close()
		os.Exit(0)
	default:
		fail("unknown command " + c.Do)
	}
}

func main() {
	lifetime, err := strconv.ParseFloat(os.Getenv("PEER_LIFETIME"), 64)
	if err != nil {
		lifetime = 120
	}
	time.AfterFunc(time.Duration(lifetime*float64(time.Second)), func() { fail(fmt.Sprintf("the peer outlived %.0f s", lifetime)) })
	pc, err = webrtc.NewPeerConnection(webrtc.Configuration{})
	check("NewPeerConnection", err)
	pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		if c != nil {
			j := c.ToJSON()
			mid := "0"
			if j.SDPMid != nil && *j.SDPMid != "" {
				mid = *j.SDPMid
			}
			emit("candidate", fields{"candidate": j.Candidate, "mid": mid})
		}
	})
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) { emit("state", fields{"state": s.String()}) })
	pc.OnDataChannel(attach)
	emit("ready", fields{"name": "pion", "version": version})
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<16), 1<<22)
	for in.Scan() {
		var c command
		check(in.Text(), json.Unmarshal(in.Bytes(), &c))
		run(c)
	}
}
