"""Where frames come from: every source gives the frames that were written, and what cannot be
used is refused with what to do.
"""

import io
import os
import struct
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pascal_nm import data
from pascal_nm.common import memory
from pascal_nm.data import Events, Frames, events, load_frames
from pascal_nm.errors import DataError

Image = pytest.importorskip("PIL.Image")


def refused(name, message, **options):
    with pytest.raises(DataError, match=message) as caught:
        load_frames(str(name), **options)
    assert "\n" not in str(caught.value)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (12, 3, 6, 5)).astype(np.uint8)


def save_images(folder, pixels, names):
    folder.mkdir(parents=True, exist_ok=True)
    for image, name in zip(pixels, names, strict=True):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / name)


# Sequences


def test_batches_and_sequences_are_consecutive_and_never_cross_a_start(pixels):
    frames = Frames("x", pixels, (0, 5, 7), np.arange(12))
    batches = list(frames.batches(3))
    assert [labels.tolist() for _, labels in batches] == [[0, 1, 2], [3, 4], [5, 6], [7, 8, 9], [10, 11]]
    for some, labels in batches:
        np.testing.assert_array_equal(some, pixels[labels])
    parts = list(frames.sequences())
    assert [(len(part), part.starts) for part in parts] == [(5, (0,)), (2, (0,)), (5, (0,))]
    np.testing.assert_array_equal(np.concatenate([part.pixels for part in parts]), pixels)
    assert np.concatenate([part.labels for part in parts]).tolist() == list(range(12))


def test_frames_without_labels_have_the_label_minus_one(pixels):
    assert [labels.tolist() for _, labels in Frames("x", pixels).batches(8)] == [[-1] * 8, [-1] * 4]


def test_the_head_of_frames_keeps_the_starts_that_are_in_it(pixels):
    frames = Frames("x", pixels, (0, 5, 7), np.arange(12))
    assert frames.head(None) is frames
    assert (len(frames.head(6)), frames.head(6).starts, frames.head(6).labels.tolist()) == (6, (0, 5), [*range(6)])
    assert (len(frames.head(5)), frames.head(5).starts) == (5, (0,))
    assert len(frames.head(99)) == 12


def test_the_share_of_changed_values_is_that_of_neighbours_in_a_sequence():
    pixels = np.zeros((5, 1, 2, 2), np.uint8)
    pixels[1, 0, 0, 0] = 1
    pixels[2, 0] = 1
    pixels[3:, 0] = 1
    assert Frames("x", pixels, (0, 4)).changed().tolist() == [1, 0.25, 0.75, 0, 1]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_frames_are_rescaled_to_the_networks_largest_pixel_value(pixels, dtype):
    frames = Frames("x", pixels.astype(dtype), (0, 4)).rescaled(16)
    exact = pixels * (16 / 255)
    assert (frames.scale, frames.starts, frames.pixels.dtype) == (16, (0, 4), dtype)
    np.testing.assert_allclose(frames.pixels, np.rint(exact) if dtype is np.uint8 else exact, rtol=1e-6)
    assert frames.rescaled(16) is frames


@pytest.mark.parametrize("scale", [1.0, 65535.0])
def test_rescaled_pixels_stay_apart_and_do_not_wrap(pixels, scale):
    frames = Frames("x", np.arange(256, dtype=np.uint8).reshape(4, 1, 8, 8)).rescaled(scale)
    np.testing.assert_allclose(frames.pixels.ravel(), np.arange(256) * scale / 255, rtol=1e-6)


def test_frames_that_are_no_sequence_are_refused(pixels):
    for arguments, message in (
        ((pixels[0],), "holds no frames"),
        ((pixels[:0],), "holds no frames"),
        ((pixels, ()), "sequences start at"),
        ((pixels, (1, 5)), "sequences start at"),
        ((pixels, (0, 5, 5)), "sequences start at"),
        ((pixels, (0, 12)), "sequences start at"),
        ((pixels, (0,), np.arange(11)), "labels of shape"),
    ):
        with pytest.raises(DataError, match=message):
            Frames("x", *arguments)


# Bundled clips


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 20, 33)])
@pytest.mark.parametrize("name", ["pan", "still"])
def test_a_bundled_clip_has_500_frames_of_the_networks_shape_that_are_the_same_each_time(name, shape):
    first, second = load_frames(name, shape=shape), load_frames(name, shape=shape)
    assert (len(first), first.shape, first.pixels.dtype) == (500, shape, np.uint8)
    assert (first.scale, first.rate) == (255, 25)
    np.testing.assert_array_equal(first.pixels, second.pixels)
    np.testing.assert_array_equal(load_frames(name, shape=shape, limit=7).pixels, first.pixels[:7])


def test_a_panned_clip_changes_as_a_slow_camera_does():
    clip = load_frames("pan", shape=(3, 32, 32))
    assert clip.starts == (0, 250)
    changed = np.delete(clip.changed(), clip.starts)
    moving = changed[changed > 0]
    assert 0.2 < np.mean(changed == 0) < 0.4, "it pauses"
    assert 0.6 < moving.mean() < 0.8, "while it moves, most values change, by little"
    steps = np.abs(np.diff(clip.pixels[:250].astype(int), axis=0))
    assert 1 < steps.mean() < 5


def test_a_camera_that_stands_still_sees_one_object_move():
    clip = load_frames("still", shape=(3, 32, 32))
    changed = clip.changed()[1:]
    assert clip.starts == (0,)
    assert changed.min() > 0.02 and changed.max() < 0.08, "some per cent change, in every frame"
    assert len(np.unique(clip.pixels.reshape(500, -1), axis=0)) > 400


@pytest.mark.parametrize("name", ["pan", "still"])
@pytest.mark.parametrize(("shape", "message"), [((2, 8, 8), "1 or 3 channels"), ((784,), r"shape \(C, H, W\)")])
def test_a_clip_is_refused_where_the_network_takes_no_images(name, shape, message):
    refused(name, message, shape=shape)


# Arrays


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_give_the_frames_that_were_written_whichever_way(tmp_path, pixels, save, channels_last):
    written = pixels.transpose(0, 2, 3, 1) if channels_last else pixels
    save(tmp_path / "x.npz", frames=written, labels=np.arange(12), starts=[0, 4, 9], scale=16, rate=30)
    np.save(tmp_path / "x.npy", written)
    for shape in (None, (3, 6, 5)):
        frames = load_frames(str(tmp_path / "x.npz"), shape=shape)
        np.testing.assert_array_equal(frames.pixels, pixels)
        assert (frames.starts, frames.labels.tolist()) == ((0, 4, 9), [*range(12)])
        assert (frames.scale, frames.rate, frames.name) == (16, 30, "x.npz")
        np.testing.assert_array_equal(load_frames(str(tmp_path / "x.npy"), shape=shape).pixels, pixels)
    head = load_frames(str(tmp_path / "x.npz"), limit=6)
    np.testing.assert_array_equal(head.pixels, pixels[:6])
    assert (head.starts, head.labels.tolist()) == ((0, 4), [*range(6)])


@pytest.mark.parametrize("dtype", ["u1", "?", "<i2", ">i4", "<f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_grey_arrays_of_any_type_and_order_are_read(tmp_path, dtype, order):
    array = np.random.default_rng(0).integers(0, 2, (9, 6, 5)).astype(dtype, order=order)
    np.save(tmp_path / "x.npy", array)
    frames = load_frames(str(tmp_path / "x.npy"), limit=4)
    np.testing.assert_array_equal(frames.pixels, array[:4, None])
    assert frames.scale == (255 if dtype in ("u1", "?") else 1)


ARRAYS = {
    "ambiguous": ({"frames": np.zeros((4, 3, 7, 3), np.uint8)}, "could be read in two ways"),
    "no channels": ({"frames": np.zeros((4, 8, 7, 9), np.uint8)}, "do not fit"),
    "two axes": ({"frames": np.zeros((4, 8))}, "is needed"),
    "five axes": ({"frames": np.zeros((4, 1, 1, 8, 8))}, "is needed"),
    "a number": ({"frames": np.zeros(())}, "is needed"),
    "empty": ({"frames": np.zeros((0, 8, 8))}, "holds no frames"),
    "NaN": ({"frames": np.full((4, 8, 8), np.nan)}, "NaN"),
    "text": ({"frames": np.full((4, 8, 8), "x")}, "numbers are needed"),
    "ragged": ({"frames": np.array([np.zeros((2, 2)), np.zeros((3, 3))], object)}, "numbers are needed"),
    "two arrays": ({"a": np.zeros((4, 8, 8)), "b": np.zeros((4, 8, 8))}, "an array called frames"),
    "labels": ({"frames": np.zeros((4, 8, 8)), "labels": np.zeros(3, int)}, "one for each"),
    "fractional labels": ({"frames": np.zeros((4, 8, 8)), "labels": np.zeros(4)}, "no list of whole numbers"),
    "starts": ({"frames": np.zeros((4, 8, 8)), "starts": [1]}, "sequences start at"),
    "rate": ({"frames": np.zeros((4, 8, 8)), "rate": -1.0}, "no single positive number"),
    "scale": ({"frames": np.zeros((4, 8, 8)), "scale": [1.0, 2.0]}, "no single positive number"),
}


@pytest.mark.parametrize(("arrays", "message"), ARRAYS.values(), ids=ARRAYS)
def test_arrays_that_are_no_frames_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    refused(tmp_path / "x.npz", message)


def test_the_networks_shape_decides_between_two_ways_and_refuses_neither(tmp_path):
    array = np.random.default_rng(0).integers(0, 9, (4, 3, 7, 3)).astype(np.uint8)
    np.save(tmp_path / "x.npy", array)
    np.testing.assert_array_equal(load_frames(str(tmp_path / "x.npy"), shape=(3, 7, 3)).pixels, array)
    last = load_frames(str(tmp_path / "x.npy"), shape=(3, 3, 7)).pixels
    np.testing.assert_array_equal(last, array.transpose(0, 3, 1, 2))
    refused(tmp_path / "x.npy", r"the network takes \(C, H, W\) = \(3, 8, 8\)", shape=(3, 8, 8))


@pytest.mark.parametrize("cut", [3, 60, 200, 1000])
@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_truncated_arrays_are_refused(tmp_path, pixels, cut, ending):
    (np.save if ending == "npy" else np.savez)(tmp_path / f"x.{ending}", pixels)
    content = (tmp_path / f"x.{ending}").read_bytes()
    (tmp_path / f"x.{ending}").write_bytes(content[:cut])
    refused(tmp_path / f"x.{ending}", "cannot be read as|truncated")


def test_a_file_that_says_it_is_larger_than_it_is_is_refused_before_memory_is_taken(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 1, 1000, 1000)}
    )
    (tmp_path / "x.npy").write_bytes(header.getvalue() + bytes(1000))
    refused(tmp_path / "x.npy", "truncated")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("frames.npy", header.getvalue())
    refused(tmp_path / "x.npz", "truncated")


def test_objects_in_arrays_are_not_unpickled(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    array = np.empty(1, object)
    array[0] = Evil()
    np.save(tmp_path / "x.npy", array)
    refused(tmp_path / "x.npy", "numbers are needed")
    assert not (tmp_path / "made").exists()


# Folders


def test_images_of_a_folder_are_in_the_order_of_the_numbers_in_their_names(tmp_path, pixels):
    names = [f"frame{i}.png" for i in range(12)]
    save_images(tmp_path / "clip", pixels, names)
    (tmp_path / "clip" / ".hidden").write_text("x")
    for shape in (None, (3, 6, 5)):
        frames = load_frames(str(tmp_path / "clip"), shape=shape)
        np.testing.assert_array_equal(frames.pixels, pixels)
        assert (frames.starts, frames.name) == ((0,), "clip")
    np.testing.assert_array_equal(load_frames(str(tmp_path / "clip"), limit=3).pixels, pixels[:3])


def test_each_folder_of_a_folder_is_a_sequence(tmp_path, pixels):
    for name, some in {"s10": pixels[7:], "s2": pixels[:5], "s9": pixels[5:7]}.items():
        save_images(tmp_path / "clips" / name, some, [f"{i}.png" for i in range(len(some))])
    done = []
    frames = load_frames(str(tmp_path / "clips"), progress=lambda *each: done.append(each))
    np.testing.assert_array_equal(frames.pixels, pixels)
    assert frames.starts == (0, 5, 7) and done[-1] == (12, 12)
    assert load_frames(str(tmp_path / "clips"), limit=6).starts == (0, 5)


def test_the_middle_of_an_image_is_averaged_to_the_networks_shape(tmp_path):
    image = np.zeros((8, 12, 3), np.uint8)
    image[:, 2:10] = np.arange(8, dtype=np.uint8)[None, :, None] * 10
    image[:, :2] = image[:, 10:] = 255
    save_images(tmp_path / "clip", image.transpose(2, 0, 1)[None], ["0.png"])
    frames = load_frames(str(tmp_path / "clip"), shape=(3, 4, 4))
    np.testing.assert_array_equal(frames.pixels[0, :, 0], [[5, 25, 45, 65]] * 3)
    grey = load_frames(str(tmp_path / "clip"), shape=(1, 4, 4))
    np.testing.assert_array_equal(grey.pixels[0, 0], [[5, 25, 45, 65]] * 4)


def test_folders_that_are_no_sequences_are_refused(tmp_path, pixels):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no images")
    save_images(tmp_path / "mixed" / "a", pixels[:2], ["0.png", "1.png"])
    save_images(tmp_path / "mixed", pixels[:1], ["0.png"])
    refused(tmp_path / "mixed", "files and folders")
    save_images(tmp_path / "sizes", [pixels[0], pixels[0, :, :3]], ["0.png", "1.png"])
    refused(tmp_path / "sizes", r"1\.png is of shape \(3, 3, 5\)")
    save_images(tmp_path / "damaged", pixels[:1], ["0.png"])
    (tmp_path / "damaged" / "1.png").write_bytes((tmp_path / "damaged" / "0.png").read_bytes()[:60])
    refused(tmp_path / "damaged", r"1\.png cannot be decoded")
    refused(tmp_path / "damaged", "grey or in colour", shape=(2, 8, 8))


# Videos


def write_video(path, codec, count=20, size=(48, 32), rate=25, **options):
    """A video whose frames are grey, each brighter than the one before."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(
                np.full((size[1], size[0], 3), 20 + 200 * i // count, np.uint8), format="rgb24"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


VIDEOS = {"x.mp4": "mpeg4", "x.mov": "mpeg4", "x.avi": "mjpeg", "x.mkv": "ffv1", "x.webm": "libvpx-vp9", "x.gif": "gif"}


@pytest.mark.parametrize(("name", "codec"), VIDEOS.items(), ids=VIDEOS)
def test_a_video_gives_its_frames_in_order(tmp_path, name, codec):
    path = write_video(tmp_path / name, codec)
    frames = load_frames(str(path), shape=(3, 8, 8))
    assert (len(frames), frames.shape, frames.rate, frames.name) == (20, (3, 8, 8), 25, name)
    means = frames.pixels.mean((1, 2, 3))
    assert np.abs(means - (10 * np.arange(20) + 20)).max() < (30 if codec == "gif" else 6), "as lossy as the codec"
    assert load_frames(str(path)).shape == (3, 32, 48)
    assert load_frames(str(path), shape=(1, 4, 4)).shape == (1, 4, 4)
    np.testing.assert_array_equal(load_frames(str(path), shape=(3, 8, 8), limit=5).pixels, frames.pixels[:5])


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", [*VIDEOS, "fast.mp4"])
def test_a_truncated_video_is_not_taken_for_the_whole(tmp_path, name, share):
    options = {"movflags": "faststart"} if name == "fast.mp4" else {}
    path = write_video(tmp_path / name, VIDEOS.get(name, "mpeg4"), count=40, **options)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(path, "truncated", shape=(3, 8, 8))


def test_a_video_that_was_cut_without_decoding_it_is_whole(tmp_path):
    """Its file holds the frames before the cut, and says that they are not shown."""
    av = pytest.importorskip("av")
    path = write_video(tmp_path / "whole.mp4", "mpeg4")
    with (
        av.open(str(path)) as whole,
        av.open(str(tmp_path / "cut.mp4"), "w", options={"avoid_negative_ts": "disabled"}) as cut,
    ):
        stream = cut.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(whole.streams.video[0]):
            if packet.dts is not None:
                packet.pts, packet.dts = (time - 12 * packet.duration for time in (packet.pts, packet.dts))
                packet.stream = stream
                cut.mux(packet)
    assert len(load_frames(str(tmp_path / "cut.mp4"), shape=(3, 8, 8))) == 8


def test_a_video_that_was_taken_with_a_turned_camera_is_shown_upright(tmp_path):
    """The matrix of the track says: the right side (1, 0) is shown at the bottom (0, 1)."""
    av = pytest.importorskip("av")
    image = np.zeros((32, 48, 3), np.uint8)
    image[:, 24:] = 255
    with av.open(str(tmp_path / "x.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    content = bytearray((tmp_path / "x.mp4").read_bytes())
    matrix = content.index(b"tkhd") + 44
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 32 << 16, 0, 1 << 30)
    (tmp_path / "x.mp4").write_bytes(content)
    frames = load_frames(str(tmp_path / "x.mp4"))
    assert frames.shape == (3, 48, 32)
    assert frames.pixels[0, :, :20].mean() < 10 and frames.pixels[0, :, 28:].mean() > 245


@pytest.mark.parametrize("name", VIDEOS)
def test_what_only_has_a_videos_name_is_not_opened_and_follows_nothing(tmp_path, name):
    there = write_video(tmp_path / "there.mp4", "mpeg4")
    texts = (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{there}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile {there}\n",
        "",
        "http://127.0.0.1:9/x.mp4",
    )
    for text in texts:
        (tmp_path / name).write_text(text)
        refused(tmp_path / name, "cannot be read as a video|holds no video")


def test_addresses_pipes_and_devices_are_no_videos(tmp_path):
    os.mkfifo(tmp_path / "x.mp4")
    refused(tmp_path / "x.mp4", "pipe or a device")
    refused("http://127.0.0.1:9/x.mp4", "does not exist")
    refused("concat:a.mp4|b.mp4", "does not exist")


def test_sound_alone_is_no_video(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "x.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    refused(tmp_path / "x.mkv", "holds no video")


@pytest.mark.parametrize(("package", "name", "extra"), [("av", "x.mp4", "video"), ("tonic", "x.bin", "events")])
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, package, name, extra):
    (tmp_path / name).write_bytes(b"x")
    for module in [package, *(m for m in sys.modules if m.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, module, None)
    refused(tmp_path / name, rf'{package} is not installed: pip install "pascal-nm\[{extra}\]"')


# Events


@st.composite
def recordings(draw):
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    event = st.tuples(st.integers(0, width - 1), st.integers(0, height - 1), st.integers(0, 1), st.integers(10, 5000))
    x, y, p, t = np.array(draw(st.lists(event, min_size=1, max_size=60))).T
    return events.from_arrays("x", x, y, p, t, height, width)


@given(recordings(), st.integers(1, 6000), st.integers(1, 9), st.integers(1, 9))
def test_the_frames_of_all_windows_add_up_to_all_events(recording, window, height, width):
    frames = recording.frames(window, (2, height, width))
    assert frames.sum() == len(recording)
    np.testing.assert_array_equal(frames.sum((0, 2, 3)), np.bincount(recording.polarity, minlength=2))
    signed = recording.frames(window, (1, height, width))
    np.testing.assert_array_equal(signed[:, 0], frames[:, 1] - frames[:, 0])
    assert len(frames) == (recording.t[-1] - recording.t[0]) // window + 1


@given(recordings(), st.integers(1, 6000))
def test_a_window_counts_the_events_of_its_time_pixel_by_pixel(recording, window):
    expected = {}
    for x, y, p, t in zip(recording.x, recording.y, recording.polarity, recording.t, strict=True):
        place = ((t - recording.t[0]) // window, p, y, x)
        expected[place] = expected.get(place, 0) + 1
    frames = recording.frames(window)
    assert {place: frames[place] for place in zip(*np.nonzero(frames), strict=True)} == expected
    np.testing.assert_array_equal(recording.frames(window, limit=2), frames[:2])


@given(recordings(), st.integers(1, 2), st.integers(1, 9), st.integers(1, 9))
def test_events_taken_one_by_one_are_signed_changes_that_add_up_to_a_frame(recording, channels, height, width):
    shape = (channels, height, width)
    image, times = np.zeros(shape, int), []
    for t, channel, y, x, sign in recording.changes(shape):
        image[channel, y, x] += sign
        times.append(t)
    np.testing.assert_array_equal(image, recording.frames(10_000, shape)[0])
    assert times == sorted(times) and len(times) == len(recording)


@pytest.mark.parametrize("negative", [False, True])
def test_events_of_arrays_need_no_other_package_and_may_be_in_any_order(tmp_path, negative):
    rng = np.random.default_rng(0)
    x, y, p, t = rng.integers(0, 16, 200), rng.integers(0, 12, 200), rng.integers(0, 2, 200), rng.permutation(50_000)
    t = t[:200]
    stored = 2 * p - 1 if negative else p.astype(bool)
    np.savez(tmp_path / "x.npz", x=x, y=y, p=stored, t=t, height=12, width=16)
    frames = load_frames(str(tmp_path / "x.npz"))
    assert (frames.shape, frames.scale, frames.rate) == ((2, 12, 16), 1, 100)
    assert frames.pixels.sum() == 200
    small = load_frames(f"{tmp_path / 'x.npz'}?window=0.5ms", shape=(1, 6, 8))
    assert (small.shape, small.rate) == ((1, 6, 8), 2000)
    assert small.pixels.sum() == (2 * p - 1).sum()
    assert len(load_frames(f"{tmp_path / 'x.npz'}?window=500us", limit=3)) == 3


def test_events_that_are_none_are_refused(tmp_path):
    good = {"x": np.arange(4), "y": np.arange(4), "p": np.array([0, 1, 0, 1]), "t": np.arange(4)}
    for change, message in (
        ({"x": np.arange(3)}, "one an event"),
        ({"t": np.arange(4.0)}, "one an event"),
        ({"p": np.arange(4)}, "polarity reaches from 0 to 3"),
        ({"x": np.arange(4) - 1}, "x reaches from -1"),
        ({"height": 3}, "y reaches from 0 to 3, it is 0 to 2"),
        ({key: value[:0] for key, value in good.items()}, "holds no events"),
    ):
        np.savez(tmp_path / "x.npz", **good | change)
        refused(tmp_path / "x.npz", message)
    np.savez(tmp_path / "x.npz", **good)
    for option in ("window=10", "window=0ms", "window=0.1us", "window=-1ms", "window="):
        refused(f"{tmp_path / 'x.npz'}?{option}", "a window is a time")
    refused(f"{tmp_path / 'x.npz'}?sensor=dvs128", "takes no option 'sensor'")
    refused(tmp_path / "x.npz", "the network takes 3", shape=(3, 8, 8))
    np.savez(tmp_path / "y.npz", frames=np.zeros((4, 8, 8)))
    refused(f"{tmp_path / 'y.npz'}?window=1ms", "holds no events")
    with pytest.raises(DataError, match="order of their times"):
        Events("x", *(np.array([0, 1]),) * 2, np.array([0, 1]), np.array([1, 0]), 2, 2)
    with pytest.raises(DataError, match="holds no events"):
        Events("x", *(np.array([0]),) * 4, 1, 1).frames(0)


def bits(*parts):
    """Numbers with some bits each, beginning at some bit."""
    return sum(np.asarray(value, np.int64) << first for value, first in parts)


@pytest.fixture
def some_events():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 34, 300), rng.integers(0, 30, 300), rng.integers(0, 2, 300), np.arange(300) * 700]


def check_recording(path, some_events, size, sensor=None):
    found = events.read(path, sensor)
    for read, written in zip((found.x, found.y, found.polarity, found.t), some_events, strict=True):
        np.testing.assert_array_equal(read, written)
    assert (found.height, found.width) == size
    binned = load_frames(f"{path}?window=20ms" + (f"&sensor={sensor}" if sensor else ""), shape=(2, 10, 10))
    assert (len(binned), binned.rate, binned.pixels.sum()) == (11, 50, 300)
    path.write_bytes(path.read_bytes()[:-3])
    refused(path, "truncated")


def test_n_mnist_files_are_read_and_truncated_ones_refused(tmp_path, some_events):
    pytest.importorskip("tonic.io", exc_type=ImportError)
    x, y, p, t = some_events
    columns = [x, y, bits((p, 7), (t >> 16, 0)), (t >> 8) & 255, t & 255]
    (tmp_path / "x.bin").write_bytes(np.stack(columns, 1).astype(np.uint8).tobytes())
    check_recording(tmp_path / "x.bin", some_events, (34, 34))


def test_aedat_files_of_both_versions_are_read_and_truncated_ones_refused(tmp_path, some_events):
    pytest.importorskip("tonic.io", exc_type=ImportError)
    x, y, p, t = some_events
    for sensor, size, address in (
        (None, (128, 128), bits((x, 8), (y, 1), (p, 0))),
        ("davis346", (260, 346), bits((345 - x, 12), (259 - y, 22), (p, 11))),
    ):
        body = np.stack([address, t], 1).astype(">u4").tobytes()
        (tmp_path / "x.aedat").write_bytes(b"#!AER-DAT2.0\r\n" + body)
        check_recording(tmp_path / "x.aedat", some_events, size, sensor)
    body = np.stack([bits((x, 17), (y, 2), (p, 1), (1, 0)), t], 1).astype("<u4").tobytes()
    packets = [
        struct.pack("<HHIIIIII", 1, 0, 8, 4, 0, 150, 150, 150) + part for part in (body[: 8 * 150], body[8 * 150 :])
    ]
    (tmp_path / "x.aedat").write_bytes(b"#!AER-DAT3.1\r\n#End Of ASCII Header\r\n" + b"".join(packets))
    check_recording(tmp_path / "x.aedat", some_events, (128, 128))


@pytest.mark.parametrize("name", ["x.bin", "x.aedat", "x.aedat4"])
def test_damaged_recordings_are_refused(tmp_path, name):
    pytest.importorskip("tonic.io", exc_type=ImportError)
    if name == "x.aedat4":
        pytest.importorskip("aedat")
    noise = np.random.default_rng(0).bytes(1001)
    for content in (b"", noise, b"#!AER-DAT1.0\r\n" + noise, b"#!AER-DAT4.0\r\n" + struct.pack("<I", 50) + noise):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, name)


# All


def test_anything_else_is_refused_with_what_is_taken(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    for name in (tmp_path / "notes.txt", tmp_path / "none.mp4", "digits"):
        refused(name, r"pan, still \(bundled\), a folder .*\.npz.*\.mp4.*\.aedat4")
    for limit in (0, -1):
        refused("pan", "limit", limit=limit)


def test_frames_without_room_in_memory_are_refused_with_how_many_have(tmp_path, pixels, monkeypatch):
    np.savez(tmp_path / "x.npz", frames=pixels)
    np.savez(tmp_path / "e.npz", x=[0, 0], y=[0, 0], p=[0, 1], t=[0, 10**15])
    save_images(tmp_path / "clip", pixels, [f"{i}.png" for i in range(12)])
    refused(tmp_path / "e.npz", "have room in memory")
    video = write_video(tmp_path / "x.mp4", "mpeg4")
    monkeypatch.setattr(memory, "available_memory", lambda: 2 * 5 * pixels[0].size)
    for name in ("x.npz", "clip"):
        refused(tmp_path / name, r"12 frames of shape \(3, 6, 5\), of which 5 have room in memory")
        assert len(load_frames(str(tmp_path / name), limit=5)) == 5
    refused(video, "20 frames .*, of which 2 have room", shape=(3, 6, 6))
    assert len(load_frames(str(video), shape=(3, 6, 6), limit=2)) == 2


def test_the_package_names_what_loads_frames():
    assert {"Frames", "Events", "load_frames"} <= set(data.__all__)


@pytest.mark.parametrize("name", ["pan", "still"])
def test_a_clip_is_made_as_far_as_it_is_limited_and_refused_where_it_has_no_room(name, monkeypatch):
    whole = load_frames(name, shape=(1, 8, 8))
    for limit in (1, 250, 251, 10_000):
        some = load_frames(name, shape=(1, 8, 8), limit=limit)
        np.testing.assert_array_equal(some.pixels, whole.head(limit).pixels)
        assert some.starts == whole.head(limit).starts
    monkeypatch.setattr(memory, "available_memory", lambda: 2 * 64 * 100)
    assert len(load_frames(name, shape=(1, 8, 8), limit=100)) == 100
    with pytest.raises(DataError, match=f"{name} has 500 frames of shape .* of which 100 have room in memory"):
        load_frames(name, shape=(1, 8, 8))


def test_numbers_beyond_64_bits_are_refused_in_arrays_of_frames_and_events(tmp_path):
    events = {key: np.arange(2) for key in ("x", "y", "p", "t")}
    far = np.array([0, 2**63], np.uint64)
    for message, arrays in (
        ("takes more than 64 bits with its sign", {"frames": np.zeros((2, 1, 4, 4), np.uint8), "labels": far}),
        ("its times reach from 0 to 9223372036854775808", {**events, "t": far}),
        ("its times reach from -9223372036854775808", {**events, "t": np.array([-(2**63), 2**63 - 1])}),
        ("a sensor of 2 x 9,223,372,036,854,775,809 pixels", {**events, "x": far}),
    ):
        np.savez(tmp_path / "far.npz", **arrays)
        with pytest.raises(DataError, match=message):
            load_frames(str(tmp_path / "far.npz"), shape=(2, 4, 4) if "t" in arrays else (1, 4, 4))
