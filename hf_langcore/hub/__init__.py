"""Sharing on the Hub: masks, results and cards. The public names are `hf_langcore.push_eval_results` and the like."""
