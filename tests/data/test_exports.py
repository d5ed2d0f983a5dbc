"""Exports of annotation tools: a miniature folder of each, by its format's definition, and wrong twins of it."""

import base64
import functools
import io
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxseg.data import notes, problems
from jaxseg.data.folders import coco, cvat, label_studio, labelme, outlines, yolo
from jaxseg.data.folders.item import OPTIONS
from jaxseg.errors import BadInput
from jaxseg.ops import rle

HEIGHT, WIDTH = 10, 20
SQUARE = [(2, 1), (8, 1), (8, 7), (2, 7)]
"""Corners of the cell: columns 2 to 7, rows 1 to 6."""
OVER = [(6, 3), (12, 3), (12, 9), (6, 9)]
"""Corners of the dirt, over the cell."""


def expected(front: str) -> np.ndarray:
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    for name in ("dirt", "cell") if front == "cell" else ("cell", "dirt"):
        (x0, y0), _, (x1, y1), _ = SQUARE if name == "cell" else OVER
        label[y0:y1, x0:x1] = 1 if name == "cell" else 2
    return label


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), 90, np.uint8)).save(path)
    return path


def png(mask: np.ndarray) -> str:
    out = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def packed(mask: np.ndarray) -> list[int]:
    """Encode a brush as label-studio does: RGBA, runs of 1 to 8, 16, 256 or 65536 values, single ones apart."""
    values = np.repeat(mask.ravel().astype(np.uint8) * 255, 4)
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    edges = np.flatnonzero(np.diff(values)) + 1
    for run in np.split(values, edges):
        bits += f"111{len(run) - 1:016b}{int(run[0]):08b}"
    return [int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8)]


def labelme_folder(root: Path, **shape) -> Path:
    picture(root / "a.png")
    shapes = [
        {"label": "cell", "points": SQUARE, "shape_type": "polygon", "group_id": None, **shape},
        {"label": "dirt", "points": [OVER[0], OVER[2]], "shape_type": "rectangle"},
        {"label": "dirt", "points": [[1, 1]], "shape_type": "point"},
    ]
    content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": "a.png", "imageData": None}
    (root / "a.json").write_text(json.dumps({**content, "imageHeight": HEIGHT, "imageWidth": WIDTH}))
    return root


def cvat_folder(root: Path, image: str = "train/a.png", cell: str = "") -> Path:
    picture(root / "images" / "train" / "a.png")
    points = ";".join(f"{x}.00,{y}.00" for x, y in SQUARE)
    cell = cell or f'<polygon label="cell" source="manual" occluded="0" points="{points}" z_order="1"/>'
    (root / "annotations.xml").write_text(
        '<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta><task><labels>'
        "<label><name>cell</name><color>#ff0000</color><type>any</type></label>"
        "<label><name>dirt</name><color>#00ff00</color></label>"
        "<label><name>corner</name><color>#0000ff</color><type>points</type></label>"
        "</labels></task></meta>"
        f'<image id="0" name="{image}" width="{WIDTH}" height="{HEIGHT}">{cell}'
        '<box label="dirt" xtl="6.00" ytl="3.00" xbr="12.00" ybr="9.00" z_order="0"/>'
        '<points label="corner" points="1,1"/></image></annotations>'
    )
    return root


def label_studio_folder(root: Path, address: str = "/data/upload/1/1a2b3c4d-a.png", label=("cell",), **task) -> Path:
    picture(root / "images" / "a.png")
    percent = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in SQUARE]
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    over = np.zeros((HEIGHT, WIDTH), bool)
    over[3:9, 6:12] = True
    results = [
        {"type": "polygonlabels", "value": {"points": percent, "polygonlabels": list(label)}, **size},
        {"type": "brushlabels", "value": {"format": "rle", "rle": packed(over), "brushlabels": ["dirt"]}, **size},
        {"type": "choices", "value": {"choices": ["sharp"]}, **size},
    ]
    tasks = [
        {"id": 7, "annotations": [{"id": 1, "result": results, **task}], "data": {"image": address}},
        {"id": 8, "annotations": [], "data": {"image": "/data/upload/1/5e6f7a8b-b.png"}},
    ]
    (root / "project-1.json").write_text(json.dumps(tasks))
    return root


def coco_folder(root: Path, category: int = 4, file_name: str = "a.png") -> Path:
    picture(root / "images" / "a.png")
    rows = [
        {
            "id": 1,
            "image_id": 3,
            "category_id": category,
            "segmentation": [list(sum(SQUARE, ()))],
            "bbox": [2, 1, 6, 6],
        },
        {"id": 2, "image_id": 3, "category_id": 9, "segmentation": [list(sum(OVER, ()))], "bbox": [6, 3, 6, 6]},
    ]
    content = {
        "images": [{"id": 3, "file_name": file_name, "height": HEIGHT, "width": WIDTH}],
        "annotations": rows,
        "categories": [{"id": 4, "name": "cell"}, {"id": 9, "name": "dirt"}],
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))
    return root


def yolo_folder(root: Path, first: str = "", train: str = "images/train") -> Path:
    picture(root / "images" / "train" / "a.png")
    lines = [
        f"{kind} " + " ".join(f"{x / WIDTH} {y / HEIGHT}" for x, y in shape) for kind, shape in ((0, SQUARE), (1, OVER))
    ]
    (root / "labels" / "train").mkdir(parents=True)
    (root / "labels" / "train" / "a.txt").write_text("\n".join([first or lines[0], lines[1]]))
    (root / "data.yaml").write_text(f"path: .\ntrain: {train}\nval:\nnames:\n  0: cell\n  1: dirt\n")
    return root


FORMATS = [
    pytest.param(labelme, labelme_folder, "dirt", None, id="labelme"),
    pytest.param(cvat, cvat_folder, "cell", "train", id="cvat"),
    pytest.param(label_studio, label_studio_folder, "dirt", None, id="label_studio"),
    pytest.param(coco, coco_folder, "dirt", "train", id="coco"),
    pytest.param(yolo, yolo_folder, "dirt", "train", id="yolo"),
]


@pytest.mark.parametrize(("reader", "make", "front", "split"), FORMATS)
def test_an_export_is_a_label_map_and_objects(reader, make, front, split, tmp_path):
    make(tmp_path)
    assert [each for each in (labelme, cvat, label_studio, coco, yolo) if each.recognises(tmp_path)] == [reader]
    found = reader.read(tmp_path, OPTIONS)
    (item,) = found.items
    assert (found.classes, found.things, item.split) == (("background", "cell", "dirt"), ("cell", "dirt"), split)
    assert isinstance(item.image, Path)
    assert item.image.name == "a.png"
    np.testing.assert_array_equal(item.label(), expected(front))
    objects = item.objects()
    assert objects["boxes"].tolist() == [[2, 1, 8, 7], [6, 3, 12, 9]]
    assert objects["classes"].tolist() == [0, 1]
    assert objects["area"].tolist() == [36, 36]
    np.testing.assert_array_equal(np.asarray([0, 1, 2])[objects["instance_ids"]], expected(front))
    assert (objects["hidden_ids"] > 0).sum() == 8
    lines = objects["rle"].tobytes().decode().split("\n")
    assert [rle.area(rle.from_string(line, HEIGHT, WIDTH)) for line in lines] == [36, 36]


@pytest.mark.parametrize(
    ("reader", "make", "wrong", "line"),
    [
        (labelme, labelme_folder, {"label": ""}, "a.json: shape 1 has no label"),
        (labelme, labelme_folder, {"points": [1, 2]}, "a.json: shape 1 has points that are not pairs"),
        (labelme, labelme_folder, {"shape_type": "circle"}, "a.json: shape 1 is a circle of 4 points, not 2"),
        (cvat, cvat_folder, {"image": "b.png"}, r"annotations.xml names the image b.png, which is not below .*put it"),
        (cvat, cvat_folder, {"cell": '<polygon label="cell" points="1;2"/>'}, "image 'train/a.png', shape 1 .*pairs"),
        (
            cvat,
            cvat_folder,
            {"cell": '<mask label="cell" rle="x" left="0" top="0" width="2" height="2"/>'},
            "run lengths",
        ),
        (cvat, cvat_folder, {"cell": "<polygon"}, "annotations.xml is no XML that can be read"),
        (
            label_studio,
            label_studio_folder,
            {"address": "s3://store/b.png"},
            "task 7 names the image /b.png, which is not",
        ),
        (
            label_studio,
            label_studio_folder,
            {"label": ("cell", "dirt")},
            r"task 7, result 1 has not one label but .*choose",
        ),
        (label_studio, label_studio_folder, {"was_cancelled": True}, "lists no image with annotations"),
        (coco, coco_folder, {"category": 5}, "annotation 1 has category 5, which the file does not list"),
        (
            coco,
            coco_folder,
            {"file_name": "b.png"},
            r"instances_train.json: image 3 names the image b.png, which is not",
        ),
        (yolo, yolo_folder, {"first": "2 0 0 1 0 1 1"}, r"a.txt, line 1 has class 2, but .*data.yaml names 2"),
        (yolo, yolo_folder, {"first": "0 0 0 1 0 1"}, "a.txt, line 1 has 5 numbers; a polygon has x y of 3 corners"),
        (yolo, yolo_folder, {"first": "0 0 0 15 0 1 1"}, r"line 1 has a coordinate outside 0\.\.1; .*not pixels"),
        (yolo, yolo_folder, {"train": "pictures"}, "there is no folder or list pictures; correct the path"),
    ],
)
def test_a_wrong_twin_is_named_in_one_line(reader, make, wrong, line, tmp_path):
    make(tmp_path, **wrong)
    with pytest.raises(BadInput, match=line) as error:
        reader.read(tmp_path, OPTIONS)
    assert "\n" not in str(error.value)


def test_all_problems_are_gathered_and_the_rest_is_read(tmp_path):
    yolo_folder(tmp_path, first="7 0 0 1 0 1 1")
    picture(tmp_path / "images/train/b.png")
    (tmp_path / "labels/train/c.txt").write_text("0 0 0 1 0 1 1")
    with problems.gather() as found, notes.gather() as noted:
        items = yolo.read(tmp_path, OPTIONS).items
    assert [item.name for item in items] == ["images/train/b"]
    first, second = found
    assert "a.txt, line 1 has class 7, but" in first
    assert "c.txt has no image beside it" in second
    assert noted == {"images without a file of labels, background alone": ["b.txt"]}


def half_labelme(root: Path) -> None:
    labelme_folder(root)
    picture(root / "b.png")
    content = json.loads((root / "a.json").read_text())
    (root / "c.json").write_text(json.dumps({**content, "imagePath": "c.png"}))


def half_cvat(root: Path) -> None:
    cvat_folder(root)
    picture(root / "images" / "train" / "b.png")
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    more = f'<image id="1" name="train/b.png" {size}></image><image id="2" name="train/c.png" {size}></image>'
    path = root / "annotations.xml"
    path.write_text(path.read_text().replace("</annotations>", more + "</annotations>"))


def half_label_studio(root: Path) -> None:
    label_studio_folder(root)
    (path,) = root.glob("*.json")
    tasks = json.loads(path.read_text())
    path.write_text(json.dumps([*tasks, {**tasks[0], "id": 9, "data": {"image": "/data/c.png"}}]))


def half_coco(root: Path) -> None:
    coco_folder(root)
    picture(root / "images" / "b.png")
    path = root / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["images"] += [{**content["images"][0], "id": 10 + i, "file_name": f"{'bc'[i]}.png"} for i in range(2)]
    path.write_text(json.dumps(content))


def half_yolo(root: Path) -> None:
    yolo_folder(root)
    picture(root / "images/train/b.png")
    picture(root / "images/train/empty.png")
    (root / "labels/train/empty.txt").write_text("")
    (root / "labels/train/c.txt").write_text("0 0 0 1 0 1 1")


@pytest.mark.parametrize(
    ("reader", "make", "kept"),
    [
        (labelme, half_labelme, ["a"]),
        (cvat, half_cvat, ["a"]),
        (label_studio, half_label_studio, ["a"]),
        (coco, half_coco, ["a"]),
        (yolo, half_yolo, ["a", "empty"]),
    ],
)
def test_skip_missing_leaves_out_what_has_no_image_or_no_annotation(reader, make, kept, tmp_path):
    make(tmp_path)
    with pytest.raises(BadInput, match=r"c\.(png|txt)[, ].*skip_missing=True") as error:
        reader.read(tmp_path, OPTIONS)
    assert "\n" not in str(error.value)
    with problems.gather() as found:
        items = reader.read(tmp_path, {**OPTIONS, "skip_missing": True}).items
    assert ([item.name.rpartition("/")[2] for item in items], list(found)) == (kept, [])


def test_a_list_of_yolo_that_names_a_missing_image_may_skip_it(tmp_path):
    yolo_folder(tmp_path, train="train.txt")
    (tmp_path / "train.txt").write_text("images/train/a.png\nimages/train/c.png\n")
    with pytest.raises(BadInput, match=r"train.txt lists images/train/c.png, .*skip_missing=True"):
        yolo.read(tmp_path, OPTIONS)
    found = yolo.read(tmp_path, {**OPTIONS, "skip_missing": True})
    assert len(found.items) == 1
    assert "1 annotated images are not there and left out: images/train/c.png" in found.notes


def test_a_missing_class_of_the_option_is_offered_the_nearest(tmp_path):
    with pytest.raises(BadInput, match=r"shapes called 'dirt', which is none of the classes cell, dirty.*dirty"):
        labelme.read(labelme_folder(tmp_path), {**OPTIONS, "classes": ("cell", "dirty")})


def test_void_names_cut_the_objects_behind_them_and_are_no_class(tmp_path):
    found = labelme.read(labelme_folder(tmp_path), {**OPTIONS, "void": "dirt"})
    (item,) = found.items
    assert found.things == ("cell",)
    np.testing.assert_array_equal(item.label(), np.asarray([0, 1, 255], np.uint8)[expected("dirt")])
    np.testing.assert_array_equal(item.objects()["instance_ids"], expected("dirt") == 1)


def test_pixels_of_no_shape_are_void_if_the_background_is(tmp_path):
    (item,) = labelme.read(labelme_folder(tmp_path), {**OPTIONS, "void": "background"}).items
    np.testing.assert_array_equal(item.label(), np.asarray([255, 0, 1], np.uint8)[expected("dirt")])


def test_shapes_of_one_group_are_one_object(tmp_path):
    labelme_folder(tmp_path, group_id=3)
    content = json.loads((tmp_path / "a.json").read_text())
    content["shapes"].append({**content["shapes"][0], "points": [[14, 1], [18, 1], [18, 5], [14, 5]]})
    (tmp_path / "a.json").write_text(json.dumps(content))
    objects = labelme.read(tmp_path, OPTIONS).items[0].objects()
    assert objects["boxes"].tolist() == [[2, 1, 18, 7], [6, 3, 12, 9]]
    assert objects["area"].tolist() == [36 + 16, 36]


def test_an_image_inside_of_labelmes_json_is_read_from_there(tmp_path):
    labelme_folder(tmp_path)
    data = (tmp_path / "a.png").read_bytes()
    content = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps({**content, "imageData": base64.b64encode(data).decode()}))
    (tmp_path / "a.png").unlink()
    (item,) = labelme.read(tmp_path, OPTIONS).items
    assert item.image() == data


def test_a_broken_shape_is_left_out_and_noted(tmp_path):
    (item,) = labelme.read(labelme_folder(tmp_path, points=SQUARE[:2]), OPTIONS).items
    with notes.gather() as noted:
        assert set(np.unique(item.label())) == {0, 2}
    assert noted == {"shapes left out, broken": ["a.json shape 1 (polygon 0 has 2 points; it needs at least 3)"]}


def test_boxes_beside_polygons_are_void_in_label_maps(tmp_path):
    yolo_folder(tmp_path, first=f"0 {5 / WIDTH} {4 / HEIGHT} {6 / WIDTH} {6 / HEIGHT}")
    found = yolo.read(tmp_path, OPTIONS)
    np.testing.assert_array_equal(found.items[0].label(), np.asarray([0, 255, 2], np.uint8)[expected("dirt")])
    assert found.items[0].objects()["boxes"].tolist() == [[2, 1, 8, 7], [6, 3, 12, 9]]
    assert "some objects are boxes without a polygon" in found.notes


def test_boxes_alone_make_no_label_map(tmp_path):
    yolo_folder(tmp_path)
    (tmp_path / "labels/train/a.txt").write_text("1 0.5 0.5 0.2 0.4\n")
    found = yolo.read(tmp_path, OPTIONS)
    assert (found.classes, found.items[0].label) == ((), None)
    assert found.items[0].objects()["boxes"].tolist() == [[8, 3, 12, 7]]
    assert "instance_ids" not in found.items[0].objects()


def test_roboflows_heading_is_no_class(tmp_path):
    coco_folder(tmp_path)
    path = tmp_path / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    content["categories"] = [{"id": 0, "name": "parts", "supercategory": "none"}] + [
        {**row, "supercategory": "parts"} for row in content["categories"]
    ]
    path.write_text(json.dumps(content))
    assert coco.read(tmp_path, OPTIONS).things == ("cell", "dirt")


def test_an_image_that_two_files_may_mean_is_not_guessed(tmp_path):
    coco_folder(tmp_path, file_name="/mine/a.png")
    picture(tmp_path / "other" / "a.png")
    with pytest.raises(BadInput, match=r"which may be .* or .*; keep one"):
        coco.read(tmp_path, OPTIONS)


def test_shapes_are_drawn_where_their_definitions_have_them():
    turned = outlines.rectangle((4.0, 4.0), (8.0, 6.0), 12, 12, turn=90.0)
    np.testing.assert_array_equal(rle.decode(turned), rle.decode(outlines.rectangle((5.0, 3.0), (7.0, 7.0), 12, 12)))
    about = outlines.rectangle((4.0, 4.0), (8.0, 6.0), 12, 12, turn=90.0, about=(4.0, 4.0))
    np.testing.assert_array_equal(rle.decode(about), rle.decode(outlines.rectangle((2.0, 4.0), (4.0, 8.0), 12, 12)))
    y, x = np.mgrid[:60, :80] + 0.5
    inside = ((x - 40) / 30) ** 2 + ((y - 30) / 12) ** 2 <= 1
    drawn = rle.decode(outlines.ellipse((40.0, 30.0), (30.0, 12.0), 60, 80))
    assert (drawn != inside).sum() < 0.1 * math.pi * 42  # on the rim alone
    upright = rle.decode(outlines.ellipse((40.0, 30.0), (12.0, 30.0), 60, 80, turn=90.0))
    assert (upright != drawn).sum() < 10  # the polygon begins elsewhere
    mask = np.asarray([[1, 0, 1], [0, 1, 1]], bool)
    assert rle.decode(outlines.png_in_window(png(mask), (2.0, 1.0), 3, 5))[1:, 2:].tolist() == mask.tolist()


@pytest.mark.parametrize("wrong", [lambda d: d[:-3], lambda d: [0, *d], lambda d: d[:5]])
def test_a_broken_brush_is_refused(wrong):
    mask = np.random.default_rng(0).random((6, 7)) < 0.5
    np.testing.assert_array_equal(rle.decode(outlines.brush(bytes(packed(mask)), 6, 7)), mask)
    with pytest.raises(BadInput, match=r"brush"):
        outlines.brush(bytes(wrong(packed(mask))), 6, 7)


def test_what_items_hold_can_be_sent_to_workers(tmp_path):
    for reader, make in ((labelme, labelme_folder), (yolo, yolo_folder), (cvat, cvat_folder)):
        folder = tmp_path / reader.__name__.rpartition(".")[2]
        folder.mkdir()
        (item,) = pickle.loads(pickle.dumps(reader.read(make(folder), OPTIONS).items))
        assert isinstance(item.label, functools.partial)
        assert item.label().shape == (HEIGHT, WIDTH)
