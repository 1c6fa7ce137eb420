"""ultralytics: an epoch of YOLO11n with validation, on images and boxes made here, with mixed precision."""
import os
import pathlib
import shutil
import tempfile

folder = tempfile.mkdtemp()
os.environ.update(YOLO_CONFIG_DIR=folder, YOLO_AUTOINSTALL="false", YOLO_OFFLINE="true")
import cv2
import matplotlib
import numpy
import ultralytics.utils

# It would load a font from elsewhere, and for a check of mixed precision a model.
font = pathlib.Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
shutil.copy(font, ultralytics.utils.USER_CONFIG_DIR / "Arial.ttf")
from ultralytics import YOLO
from ultralytics.engine import trainer

trainer.check_amp = lambda model: True
root = pathlib.Path(folder, "data")
for part, count in [("train", 16), ("val", 4)]:
    for kind in ["images", "labels"]:
        (root / kind / part).mkdir(parents=True)
    for number in range(count):
        picture = numpy.random.randint(0, 255, (320, 320, 3), numpy.uint8)
        cv2.imwrite(str(root / "images" / part / f"{number}.jpg"), picture)
        (root / "labels" / part / f"{number}.txt").write_text("0 0.5 0.5 0.3 0.3\n1 0.2 0.2 0.1 0.1\n")
(root / "data.yaml").write_text(f"path: {root}\ntrain: images/train\nval: images/val\nnames: [a, b]\n")
model = YOLO("yolo11n.yaml")
model.train(data=str(root / "data.yaml"), epochs=1, imgsz=320, batch=8, workers=2, device=0, plots=False, project=f"{folder}/runs")
assert (pathlib.Path(model.trainer.save_dir) / "weights/last.pt").exists()
shutil.rmtree(folder)
