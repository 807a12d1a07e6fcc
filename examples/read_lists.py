"""Read lists as a product backend does: python examples/read_lists.py http://127.0.0.1:8000 7 42"""

import sys

from serving.client import RecommendationClient

url, *user_ids = sys.argv[1:]
with RecommendationClient(url, timeout_s=0.5) as client:
    print("ready:", client.ready().ready)
    for answer in client.recommend_many(user_ids, k=5):  # one round trip, all of one release
        print(f"\n{answer.user_id}: {answer.model}, as of {answer.as_of}")
        if answer.is_fallback:
            print("  nobody knows this user yet; this is the list for everyone")
        for item in answer.items:
            chance = "" if item.probability is None else f"{item.probability:.2%}"
            print(f"  {item.rank}. {item.item_id}  {chance:>6}  {item.source}: {item.reason}")
