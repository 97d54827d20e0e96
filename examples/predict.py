"""Ask each shipped model something: python examples/predict.py [URL]."""

import sys
from pathlib import Path

from servoloop import DEFAULT_URL, Client

HERE = Path(__file__).parent
PICTURES = [HERE / f"{name}.png" for name in ("ankle-boot", "pullover", "trouser", "sneaker")]
SENTENCES = ["A wonderful film with a great cast.", "Two hours that I will never get back."]


def main() -> None:
    url = sys.argv[1] if len(sys.argv) > 1 else DEFAULT_URL
    with Client(url) as client:
        for picture, clothes in zip(PICTURES, client.predict_many("fashion", PICTURES), strict=True):
            print(f"fashion: {picture.name} shows {clothes.label!r} ({clothes.probability:.0%})")
        for model in ("sentiment", "sentiment-lstm"):
            for sentence, mood in zip(SENTENCES, client.predict_many(model, SENTENCES), strict=True):
                print(f"{model}: {sentence!r} is {mood.label} ({mood.probability:.0%})")
        price = client.predict("house-price", {"lotsize": 5850})
        print(f"house-price: a house on 5850 square feet costs about {price.value:,.0f} Canadian dollars")


if __name__ == "__main__":
    main()
